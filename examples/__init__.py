"""Two programs on `assessments` as a host would write them: a web service and a scoring worker."""
