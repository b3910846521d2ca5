"""What targets can and cannot do, each fact with its source; and the check of files against it."""
