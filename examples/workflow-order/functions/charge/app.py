class Busy(Exception):
    pass


class CardDeclined(Exception):
    pass


def handler(payment, context):
    if payment["card"] == "slow" and payment["attempt"] == 0:
        raise Busy("the bank is busy, try again")
    if payment["card"] == "empty":
        raise CardDeclined(f"no {payment['amount']} on this card")
    return {"paid": payment["amount"], "attempts": payment["attempt"] + 1}
