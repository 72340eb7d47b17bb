"""Every registered method, and every number in which two of them differ."""
