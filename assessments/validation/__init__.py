"""Argument validation: one pass over each argument, before anything is encoded or sent.

What passes comes back from PostgreSQL equal; what does not is an `InvalidInput` that names the
argument and never quotes its value. The limits are defined here and nowhere else.
"""

MAX_ANSWER_BYTES = 1024 * 1024  # of UTF-8
MAX_METADATA_BYTES = 64 * 1024  # of JSON in UTF-8, numbers as JSONB writes them
MAX_SCORE_BYTES = 256 * 1024  # likewise
MAX_JSON_DEPTH = 32  # the object at the top is level 1
MAX_JSON_DIGITS = 640  # of an int; what every sys.set_int_max_str_digits() lets Python read back
MAX_ID_CHARACTERS = 512
MAX_BATCH = 10_000  # items of a call that takes many
MAX_PAGE = 10_000  # rows of one query that returns many
MAX_BATCH_CHARACTERS = 64 * 1024 * 1024  # of its ids, answers and JSON together
MAX_DAYS = 365_000  # of retention: a thousand years
MAX_BIGINT = 2**63 - 1  # of PostgreSQL
