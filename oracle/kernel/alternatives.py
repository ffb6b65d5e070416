"""placeholder until the branch with it is merged"""


def explain(*a):
    return ""
