"""The integer graph between training and the files for each target."""
