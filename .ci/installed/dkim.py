"""The extra "dkim": the library that signs is there."""

import dkim

assert callable(dkim.sign)
