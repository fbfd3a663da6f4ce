// Everything of booking-sync that lives in an Azure subscription: one resource group, five modules.
// Plain resources with pinned API versions rather than Azure Verified Modules: those are fetched from
// mcr.microsoft.com when the template is built, and nobody could build, read or check this without it.
// What lives outside Azure (Graph, Exchange, Dataverse) is in scripts/.
targetScope = 'subscription'

@description('Name of the azd environment; part of every resource name.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of all resources; it has to offer Flex Consumption.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

@description('The Dynamics 365 environment, like https://contoso.crm4.dynamics.com')
@minLength(1)
param dataverseUrl string

@description('Logical name of the booking column that holds the event id, like contoso_outlookeventid')
@minLength(1)
param eventIdColumn string

@description('Comma-separated object ids of the mailboxes of a pilot; empty for everybody.')
param mailboxes string = ''

@description('sync, or observe to write nothing to Dataverse and only tell what would be written; empty for sync.')
param syncMode string = ''

@description('Who wins where booking and event were moved apart: dataverse, outlook or hold; empty for dataverse.')
param conflictPolicy string = ''

@description('So many bookings of one mailbox may be canceled in an hour without a person\'s word; empty for 30.')
param cancellationsPerMailbox string = ''

@description('So many bookings of all mailboxes may be canceled in an hour without a person\'s word; empty for 200.')
param cancellationsInAll string = ''

@description('The booking status to cancel with, where several could be meant.')
param canceledStatusId string = ''

@description('Name of the open extension that holds the booking id; empty for the default of the app.')
param extensionName string = ''

@description('Property of the open extension that holds the booking id; empty for the default of the app.')
param extensionProperty string = ''

@description('Microsoft Graph with its version; empty for the public cloud.')
param graphUrl string = ''

@description('true stops the writing of bookings, and lets changes wait in the queue; empty or false for not.')
param changesPaused string = ''

@description('Which traces are sent, like parentbased_traceidratio; empty for all.')
param tracesSampler string = ''

@description('What the sampler takes, like 0.1 for a tenth.')
param tracesSamplerArg string = ''

@description('While rotating: version of the secret client-state-key whose value is still accepted.')
param previousClientStateKeyVersion string = ''

@description('Instances that are always up for `notifications`. Graph gives a notification three seconds, cold start included.')
@minValue(0)
@maxValue(20)
param httpAlwaysReady int = 0

@description('Notifications that one instance takes at a time; for Python, Flex Consumption would say 1.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 16

@description('Memory of an instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances; Flex Consumption asks for 40 or more.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Whom the alerts are mailed to; empty to see them in the portal only.')
param alertEmail string = ''

@description('Object id of the group that may type the commands: queues, tables and both secrets; empty for nobody.')
param operatorsGroupId string = ''

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'st${token}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
    operatorsGroupId: operatorsGroupId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
    operatorsGroupId: operatorsGroupId
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    workspaceName: 'log-${token}'
    insightsName: 'appi-${token}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: 'func-${token}'
    planName: 'plan-${token}'
    location: location
    tags: tags
    identityName: identity.outputs.name
    storageName: storage.outputs.name
    packageContainer: storage.outputs.packageContainer
    vaultName: vault.outputs.name
    insightsName: monitoring.outputs.insightsName
    httpAlwaysReady: httpAlwaysReady
    httpConcurrency: httpConcurrency
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    previousClientStateKeyVersion: previousClientStateKeyVersion
    settings: {
      DATAVERSE_URL: dataverseUrl
      EVENT_ID_COLUMN: eventIdColumn
      MAILBOXES: mailboxes
      SYNC_MODE: syncMode
      CONFLICT_POLICY: conflictPolicy
      CANCELLATIONS_PER_MAILBOX: cancellationsPerMailbox
      CANCELLATIONS_IN_ALL: cancellationsInAll
      CANCELED_STATUS_ID: canceledStatusId
      EXTENSION_NAME: extensionName
      EXTENSION_PROPERTY: extensionProperty
      GRAPH_URL: graphUrl
      'AzureWebJobs.process_outlook_change.Disabled': changesPaused
      OTEL_TRACES_SAMPLER: tracesSampler
      OTEL_TRACES_SAMPLER_ARG: tracesSamplerArg
    }
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    namePrefix: 'booking-sync-${environmentName}'
    location: location
    tags: tags
    workspaceName: monitoring.outputs.workspaceName
    storageName: storage.outputs.name
    email: alertEmail
  }
}

// azd keeps these in its environment, where the hooks and scripts find them.
output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output SERVICE_APP_NAME string = app.outputs.name
output SERVICE_APP_URI string = app.outputs.uri
output SERVICE_APP_IDENTITY_CLIENT_ID string = identity.outputs.clientId
output SERVICE_APP_IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
