"""What the predictions and the words of a figure mean, in plain words."""

# Prediction → what it says of a head.
SAYS = {
    "P1a": "Put back where the tile has another colour, it raises the odd colour.",
    "P1b": "Put back on a plain canvas, it raises the odd colour.",
    "P2a": "If it only looks where it did, where the tile has another colour, the answer stays that colour.",
    "P2b": "If it only looks where it did, on a plain canvas, it reads the canvas there and raises its colour.",
    "P2c": "If only what it finds there is put back, where the tile has another colour, it raises the odd "
    "colour (may stand in for P2b).",
    "P3a": "Put back on a plain canvas, it raises the canvas's colour and not the odd one.",
    "P3b": "Put back where the tile has another colour, it changes nothing: the place was right already.",
    "P4": "Put back on a canvas of another colour, it raises the colour that is there now.",
    "P5": "Most of what it does runs through the color extractors.",
    "P6": "Taken from a picture with the tile elsewhere, it moves the reading to that place.",
    "P7": "It is enough that it looks where it did: the extractors then read the canvas there.",
    "P7r": "It is not enough that it looks where it did: another head must put the place there.",
    "P4w": "Put back on a canvas of another colour, it raises the background that it saw.",
    "P5w": "Most of what it does runs past the color extractors.",
    "P8": "Switched off on a plain canvas, it leaves the canvas's colour alone.",
    "P8s": "Switched off on a plain canvas, it lets the canvas's colour rise: it was holding it down.",
    "P9a": "Put back on a plain canvas, it lowers the answer “nothing is odd” and raises no colour.",
    "P9b": "Where the tile has another colour, it leaves the answer “nothing is odd” alone.",
    "P10": "Without it, the right answer to the clean picture loses (no role asks for this).",
}

# Component → what of a head is restored.
COMPONENTS = {
    "z": "its output (z)",
    "pattern": "where it looks (pattern)",
    "value": "what it finds there (value)",
}

# Role of an answer in the game → what its word is.
WORDS = {
    "odd": "colour of the odd tile",
    "other": "colour that the tile has in “recolored”",
    "background": "colour of the canvas",
    "other_background": "colour of the canvas in “swapped”",
    "none": "“nothing is odd”",
}
