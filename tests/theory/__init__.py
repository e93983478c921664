"""The event engine against queueing theory and second opinions."""
