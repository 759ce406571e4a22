"""The parts of AWS's client that functions import, for type annotations and tests."""
