"""Reports of runs: one page that holds everything, or Markdown with its pictures beside it."""
