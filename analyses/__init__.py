"""Analyses of what the heads of a vision-language model do; hypotheses of the RGB game have a
module each."""
