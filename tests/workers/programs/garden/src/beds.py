from workers import DurableObject


class Shared:
    def describe(self):
        return f"{self.kind} of {self.env.SEASON}"


class Bed(DurableObject, Shared):
    kind = "bed"
