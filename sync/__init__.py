"""Keeps Dynamics 365 bookings in step with the Outlook events that stand for them. The map of the house:

- ``pairs``: one event and its booking: looked at, decided, written, remembered. Start reading at ``pairs/pair.py``, go
  on with ``pairs/decision.py`` and ``pairs/processing.py``, and end with ``function_app.py``.
- ``messages``: what the queues carry, and what becomes of a message.
- ``intake``: from a service's POST to one message for each event that needs a run.
- ``sweep``: what no notification told: both lists of a mailbox compared.
- ``subscriptions``: one Graph subscription for each mailbox.
- ``graph``, ``dataverse``, ``storage``: the three services, each with its wire names.
- ``calls``: what every call to a service shares: answers understood, retries, pauses, pace.
- ``status``, ``telemetry``: what people and Application Insights are shown; they decide nothing.
- ``doctor``, ``operate``: ``python -m sync COMMAND``; nothing in Azure imports them.
- ``model``, ``ids``, ``times``, ``errors``, ``settings``: the words that all rooms share.
- ``triggers``, ``wiring``: one function for each trigger, and what builds the real thing.
"""
