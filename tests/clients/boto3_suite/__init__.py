"""What the suites of boto3 are made of, by theme."""
