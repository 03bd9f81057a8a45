"""Two programs on `assessments` as a host would write them: a service and a scoring worker."""
