"""The table of triggers: what wakes the app, and which part of it."""

import azure.functions as func

from sync import triggers

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route("notifications", methods=["POST"])
async def notifications(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(**await triggers.notifications(req.params, req.get_body()))


@app.queue_trigger("msg", queue_name="outlook-changes", connection="AzureWebJobsStorage")
async def process_outlook_change(msg: func.QueueMessage) -> None:
    await triggers.process_outlook_change(msg.get_body())


@app.queue_trigger("msg", queue_name="subscription-lifecycle", connection="AzureWebJobsStorage")
async def process_lifecycle(msg: func.QueueMessage) -> None:
    await triggers.process_lifecycle(msg.get_body())


@app.queue_trigger("msg", queue_name="sweeps", connection="AzureWebJobsStorage")
async def sweep_mailbox(msg: func.QueueMessage) -> None:
    await triggers.sweep_mailbox(msg.get_body())


@app.timer_trigger("timer", schedule="0 7 * * * *")
async def renew_subscriptions(timer: func.TimerRequest) -> None:
    await triggers.renew_subscriptions()


@app.timer_trigger("timer", schedule="0 23 2-4 * * *")
async def sweep(timer: func.TimerRequest) -> None:
    await triggers.sweep()


@app.route("status", methods=["GET"])
async def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(**await triggers.status())


@app.route("status/page", methods=["GET"])
async def status_page(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(**await triggers.status_page())
