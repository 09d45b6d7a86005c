"""Pieces of statements that tell idle workers and waiting clients, inside the commit that gives them something to do.

A NOTIFY takes one lock for the whole server until its transaction is on disk, so it is sent only where somebody has
said that he wants to know: a worker by `hungry`, a waiter by `awaited`.
"""

DUE = "due"
ENDED = "ended"
MAIL = "mail"
REPLIED = "replied"
DRAIN = "drain"
EVENT = "event"

SOMEBODY_IDLE = """EXISTS (
        SELECT FROM {schema}.workers AS idle WHERE idle.hungry AND idle.ended_at IS NULL AND idle.lease_until > now()
    )"""

TELL_DUE = f"pg_notify({{channel}}, '{DUE}')"
TELL_ENDED = f"pg_notify({{channel}}, '{ENDED}')"
TELL_MAIL = f"pg_notify({{channel}}, '{MAIL}')"
TELL_REPLIED = f"pg_notify({{channel}}, '{REPLIED}')"
TELL_DRAIN = f"pg_notify({{channel}}, '{DRAIN}')"
TELL_EVENT = f"pg_notify({{channel}}, '{EVENT}')"
