"""One module per hypothesis about the heads of a LLaVA that plays the RGB game."""
