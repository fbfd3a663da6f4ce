"""infra/ and azure.yaml, as far as can be told without the Bicep compiler, azd and Azure; not the scripts."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from sync.settings.parts import Settings
from sync.telemetry.spans import AGE, DRIFT, METRICS, NOTIFICATIONS, PARKED, POISON, SUBSCRIPTIONS
from tests.world.infra import APP, FILES, INFRA, MAIN, ROOT, STORAGE, app_settings, main_module_bodies

AZD = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))
FUNCTIONS = (ROOT / "function_app.py").read_text("utf-8")

# Source: Azure Functions, "Flex Consumption plan", deprecated properties and settings.
FORBIDDEN = {
    *("ENABLE_ORYX_BUILD", "FUNCTIONS_EXTENSION_VERSION", "FUNCTIONS_WORKER_PROCESS_COUNT"),
    *("FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_WORKER_RUNTIME_VERSION", "SCM_DO_BUILD_DURING_DEPLOYMENT", "TZ"),
    *("WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", "WEBSITE_CONTENTSHARE", "WEBSITE_RUN_FROM_PACKAGE"),
    *("WEBSITE_TIME_ZONE", "AzureWebJobsStorage"),
}

# What the Functions host, azure-identity and OpenTelemetry read, and the app does not.
PLATFORM = {
    *("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "APPLICATIONINSIGHTS_CONNECTION_STRING", "AZURE_CLIENT_ID"),
    *("AzureWebJobsStorage__blobServiceUri", "AzureWebJobsStorage__credential", "AzureWebJobsStorage__tableServiceUri"),
    *("AzureWebJobs.process_outlook_change.Disabled", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
}

# Source: Azure, "Azure built-in roles".
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
}
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


# What a compiler would say first.


@pytest.mark.parametrize("name", FILES)
def test_it_parses(name):
    assert FILES[name].errors == []


@pytest.mark.parametrize("name", FILES)
def test_every_name_is_declared_and_every_declaration_used(name):
    file = FILES[name]
    assert file.used <= file.declared
    assert set(file.params) | set(file.variables) <= file.used


@pytest.mark.parametrize("module", MAIN.modules, ids=lambda module: module.symbol)
def test_a_module_gets_what_it_asks_for(module):
    asked = FILES[module.path].params
    assert module.given <= set(asked)
    assert {name for name, default in asked.items() if default is ...} <= module.given


def test_what_is_taken_from_a_module_is_put_out_by_it():
    paths = {module.symbol: module.path for module in MAIN.modules}
    taken = re.findall(r"\b(\w+)\.outputs\.(\w+)", MAIN.text)
    assert taken
    assert [pair for pair in taken if pair[1] not in FILES[paths[pair[0]]].outputs] == []


@pytest.mark.parametrize("name", FILES)
def test_api_versions_are_pinned_and_one_type_has_one(name):
    versions = {(one.type, one.version) for file in FILES.values() for one in file.resources if one.version}
    assert len(versions) == len(dict(versions))
    assert "br:" not in FILES[name].text
    assert "br/" not in FILES[name].text
    assert "-preview" not in "".join(version for _, version in versions if version)


# azd's conventions.


def test_azd_finds_its_resources_by_their_tags():
    assert MAIN.variables["tags"] == {"azd-env-name": "environmentName"}
    for name, file in FILES.items():
        for one in file.resources:
            if "location" in one.body and not one.is_existing:
                expected = "union(tags, { 'azd-service-name': 'app' })" if one.symbol == "site" else "tags"
                assert one.body["tags"] == expected, f"{name}: {one.symbol}"
    assert list(AZD["services"]) == ["app"]


def test_azd_builds_here_and_publishes_what_was_built():
    service = AZD["services"]["app"]
    assert (service["host"], service["language"], service["project"]) == ("function", "python", ".")
    assert service["remoteBuild"] is False
    assert service["dist"] == "build/app"


@pytest.mark.parametrize("hook", AZD["hooks"])
def test_a_hook_calls_a_script_that_is_there(hook):
    for system in ("posix", "windows"):
        python, script, *_ = AZD["hooks"][hook][system]["run"].replace("py -3.13", "py-3.13").split()
        assert "3.13" in python
        assert (ROOT / script).is_file()
    assert subprocess.run(["sh", "-n", "-c", AZD["hooks"][hook]["posix"]["run"]], check=False).returncode == 0


def test_the_parameters_file_gives_every_parameter_and_agrees_on_defaults():
    content = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))
    given = {name: re.fullmatch(r"\$\{(\w+)(=(.*))?\}", one["value"]) for name, one in content["parameters"].items()}
    assert set(given) == set(MAIN.params)
    for name, default in MAIN.params.items():
        match = given[name]
        assert match, name
        # Without a default azd asks for what is not set.
        assert match[3] == (None if default is ... else str(default)), name


def test_the_docs_name_what_a_deployment_can_be_told_and_no_more():
    content = (INFRA / "main.parameters.json").read_text("utf-8")
    told = set(re.findall(r"\$\{(\w+)", content)) - {"AZURE_ENV_NAME", "AZURE_LOCATION"}
    assert set(names_in_the_first_column(ROOT / "docs" / "deploy.md", "| variable |")) == told


def names_in_the_first_column(page: Path, header: str) -> list[str]:
    """What stands in backquotes, or if nothing does, the cell, in each row of the table with this header."""
    _, table = page.read_text("utf-8").split(f"\n{header}", 1)
    cells = [row.split("|")[1].strip() for row in table.split("\n\n")[0].splitlines()[2:]]
    return [name for cell in cells for name in (re.findall(r"`([^`]+)`", cell) or [cell])]


def test_what_azd_keeps_is_what_the_scripts_read():
    read = set()
    for path in (INFRA / "scripts").glob("*.py"):
        read |= set(re.findall(r'option\(parser, "[^"]+", "([A-Z_]+)"', path.read_text("utf-8")))
    assert read - {"AZURE_SUBSCRIPTION_ID", "DATAVERSE_URL"} <= set(MAIN.outputs)


# The app.


def test_the_app_gets_its_settings_and_nothing_unknown():
    known = {str(field.alias) for field in Settings.model_fields.values()}
    # Storage is reached by identity, and by the services' URLs rather than the account's name.
    of_tests = "SETTLE_SECONDS"
    assert known - set(app_settings()) == {"AzureWebJobsStorage", "AzureWebJobsStorage__accountName", of_tests}
    assert set(app_settings()) - known <= PLATFORM


def test_what_can_be_paused_is_the_function_that_writes_bookings():
    disabled = [name for name in app_settings() if name.endswith(".Disabled")]
    assert disabled == ["AzureWebJobs.process_outlook_change.Disabled"]
    assert "async def process_outlook_change(" in FUNCTIONS


def test_what_the_docs_set_by_hand_a_deployment_can_be_told():
    """Or the next one would undo it, as it replaces all settings."""
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    commands = [
        command for text in texts for command in re.findall(r"config appsettings set((?:[^\n]*\\\n)*[^\n]*)", text)
    ]
    by_hand = {name for command in commands for name in re.findall(r"([A-Za-z_.]+)=", command.replace("?code=", ""))}
    assert {"SYNC_MODE", "AzureWebJobs.process_outlook_change.Disabled", "OTEL_TRACES_SAMPLER"} <= by_hand
    assert by_hand <= set(app_settings())


def test_no_setting_is_one_that_flex_consumption_refuses():
    assert not FORBIDDEN & set(app_settings())


def test_it_runs_on_flex_consumption_with_the_python_it_is_built_for():
    plan, site = APP.resource("Microsoft.Web/serverfarms"), APP.resource("Microsoft.Web/sites")
    config = site.body["properties"]["functionAppConfig"]
    assert plan.body["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    assert config["runtime"] == {"name": "python", "version": "3.13"}
    assert config["scaleAndConcurrency"]["triggers"] == {"http": {"perInstanceConcurrency": "httpConcurrency"}}
    assert MAIN.params["httpConcurrency"] > 1
    assert MAIN.params["httpAlwaysReady"] == 0
    assert MAIN.params["maximumInstanceCount"] >= 40


def test_the_deployed_package_is_fetched_by_identity():
    storage = APP.resource("Microsoft.Web/sites").body["properties"]["functionAppConfig"]["deployment"]["storage"]
    assert storage["type"] == "blobContainer"
    assert storage["authentication"]["type"] == "UserAssignedIdentity"
    assert STORAGE.outputs["packageContainer"] == "packageContainer"


def test_the_queues_are_those_of_the_functions_with_their_poison():
    queues = re.findall(r'queue_name="([^"]+)"', FUNCTIONS)
    assert sorted(STORAGE.variables["queueNames"]) == sorted([*queues, *(f"{queue}-poison" for queue in queues)])
    assert {"blobServices", "queueServices", "tableServices"} <= {one.type for one in STORAGE.resources}


# Who may do what.


def test_storage_has_no_keys_and_no_public_blobs():
    properties = STORAGE.resource("Microsoft.Storage/storageAccounts").body["properties"]
    assert properties["allowSharedKeyAccess"] is False
    assert properties["allowBlobPublicAccess"] is False
    assert properties["supportsHttpsTrafficOnly"] is True


def test_telemetry_takes_tokens_only_and_publishing_no_password():
    insights = FILES["modules/monitoring.bicep"].resource("Microsoft.Insights/components")
    assert insights.body["properties"]["DisableLocalAuth"] is True
    policy = APP.resource("basicPublishingCredentialsPolicies")
    assert policy.body["properties"] == {"allow": False}
    assert "['ftp', 'scm']" in policy.node.text.decode()


def test_the_roles_are_these_and_no_others():
    granted = {name: {ROLES[guid] for guid in GUID.findall(file.text)} for name, file in FILES.items()}
    assert {name: roles for name, roles in granted.items() if roles} == {
        "modules/storage.bicep": {
            "Storage Blob Data Owner",
            "Storage Queue Data Contributor",
            "Storage Table Data Contributor",
        },
        "modules/vault.bicep": {"Key Vault Secrets User"},
        "modules/monitoring.bicep": {"Monitoring Metrics Publisher"},
    }
    assert STORAGE.variables["appRoles"] == ["blobDataOwner", "queueDataContributor", "tableDataContributor"]
    assert STORAGE.variables["operatorsRoles"] == ["queueDataContributor", "tableDataContributor"]


def test_a_role_is_granted_on_one_resource_never_on_the_group():
    for file in FILES.values():
        for one in file.resources:
            if one.type == "Microsoft.Authorization/roleAssignments":
                assert one.body["scope"] in {"account", "vault", "insights"}


@pytest.mark.parametrize("module", ["modules/storage.bicep", "modules/vault.bicep"])
def test_operators_have_their_roles_as_a_group_and_only_if_there_is_one(module):
    (role,) = (one for one in FILES[module].resources if one.symbol == "operatorsRole")
    assert role.body["properties"]["principalId"] == "operatorsGroupId"
    assert role.body["properties"]["principalType"] == "Group"
    assert "if (!empty(operatorsGroupId))" in role.node.text.decode()
    (given,) = (body for body in main_module_bodies() if f"modules/{body['name']}.bicep" == module)
    assert given["params"]["operatorsGroupId"] == "operatorsGroupId"


def test_secrets_are_references_to_the_vault_read_with_the_identity():
    settings = app_settings()
    for name in ("CLIENT_STATE_KEY", "CLIENT_STATE_KEY_PREVIOUS", "NOTIFICATION_URL"):
        assert settings[name].startswith("'${secrets}/")
    assert APP.variables["secrets"].startswith("'@Microsoft.KeyVault(SecretUri=")
    assert APP.resource("Microsoft.Web/sites").body["properties"]["keyVaultReferenceIdentity"] == "identity.id"
    vault = FILES["modules/vault.bicep"].resource("Microsoft.KeyVault/vaults")
    assert vault.body["properties"]["enableRbacAuthorization"] is True


def test_no_secret_passes_through_a_parameter_or_an_output():
    assert "@secure()" not in "".join(file.text for file in FILES.values())
    for name, file in FILES.items():
        assert ("listKeys" in file.text) == (name == "notification-url.bicep")
        assert not [text for text in file.outputs.values() if re.search("list[A-Z]|ConnectionString", text)]
    assert FILES["notification-url.bicep"].outputs == {}


def test_the_notification_url_is_that_of_the_function():
    route = re.search(r'@app\.route\("(\w+)"[^\n]*\nasync def (\w+)', FUNCTIONS)
    assert route
    file = FILES["notification-url.bicep"]
    prefix = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["http"]["routePrefix"]
    assert f"/{prefix}/{route[1]}?code=" in file.text
    assert [one.body["name"] for one in file.resources if one.type == "functions"] == [route[2]]


# Alerts.


def test_alerts_look_for_what_is_written():
    queries = {rule["name"]: rule["query"] for rule in FILES["modules/alerts.bicep"].variables["rules"]}
    assert set(queries) == {"parked", "failures", "renewal", "unsubscribed", "silence", "lag", "drift"}
    assert re.search(r'schedule="0 \d+ \* \* \* \*"\)\nasync def renew_subscriptions', FUNCTIONS)
    assert '"renew_subscriptions"' in queries["renewal"]


def test_the_docs_name_each_metric_and_each_alert():
    page = ROOT / "docs" / "telemetry.md"
    rules = [rule["name"] for rule in FILES["modules/alerts.bicep"].variables["rules"]]
    assert sorted(names_in_the_first_column(page, "| alert |")) == sorted([*rules, "backlog"])
    assert sorted(names_in_the_first_column(page, "| metric |")) == sorted(METRICS)


def test_no_alert_looks_at_what_is_sampled():
    """Of a log of which a part is dropped, the one line that matters may be dropped as well."""
    sampling = json.loads((ROOT / "host.json").read_text("utf-8"))["logging"]["applicationInsights"]["samplingSettings"]
    whole = {"AppMetrics", *(f"App{each}s" for each in sampling["excludedTypes"].split(";"))}
    for rule in FILES["modules/alerts.bicep"].variables["rules"]:
        assert set(re.findall(r"\bApp[A-Z]\w+", rule["query"])) <= whole, rule["name"]


def test_every_query_counts_what_the_alert_compares():
    for rule in FILES["modules/alerts.bicep"].variables["rules"]:
        # One row, also when nothing was logged: no `by`.
        assert re.search(r"\n *\| summarize Count = sum\((ItemCount|Sum)\)$", rule["query"].rstrip())


def test_a_metric_that_an_alert_looks_at_is_told_by_the_app():
    looked_at = set()
    for rule in FILES["modules/alerts.bicep"].variables["rules"]:
        for name in re.findall(r'\bName == "([^"]+)"', rule["query"]):
            attributes = re.findall(r"Properties\.(\w+) ==", rule["query"])
            assert set(attributes) <= set(METRICS[name].attributes)
            looked_at.add(name)
        # A counter's point is one row whatever it counts; of a gauge and a histogram each value is one.
        is_counter = any(METRICS[name].kind == "counter" for name in re.findall(r'\bName == "([^"]+)"', rule["query"]))
        assert not (is_counter and "sum(ItemCount)" in rule["query"])
    assert looked_at == {SUBSCRIPTIONS, NOTIFICATIONS, AGE, DRIFT, PARKED, POISON}


@pytest.mark.parametrize(
    ("metric", "attribute", "source"),
    [
        (SUBSCRIPTIONS, '"failed"', "subscriptions/standing"),
        (NOTIFICATIONS, '"received"', "telemetry/counters"),
        (DRIFT, '"queued"', "sweep/sweeper"),
    ],
)
def test_what_an_alert_asks_of_a_metric_is_what_the_app_says(metric, attribute, source):
    [query] = [each["query"] for each in FILES["modules/alerts.bicep"].variables["rules"] if metric in each["query"]]
    assert f"== {attribute}" in query
    assert attribute in (ROOT / "sync" / f"{source}.py").read_text("utf-8")
