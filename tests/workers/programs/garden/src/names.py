from workers import env


def of_season():
    return f"garden in {env.SEASON}"
