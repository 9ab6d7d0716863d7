"""Which rooms of a synthetic dataset are held out?"""


def is_validation(number: int) -> bool:
    """Every fifth room is for validation, from number 4 on."""
    return number % 5 == 4
