"""What several functions share. In a layer it lies at /opt/python, where Python looks for modules."""


def greet(name: str) -> str:
    return f"Hello, {name}!"
