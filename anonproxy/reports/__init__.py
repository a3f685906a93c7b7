"""Answers to the webmaster's questions: one SQL file each, over the views `hits` and `daily`."""
