"""What gets how many bits: schemes, their shorthand, their files."""
