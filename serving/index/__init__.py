"""The indexes that an export can hold, behind one interface."""
