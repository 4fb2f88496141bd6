"""Values of units: the game that a network plays, and the phases of its estimation."""
