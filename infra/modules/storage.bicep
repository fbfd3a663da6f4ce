// The app's storage account: queues, tables, the host's blobs and the deployed package. Nothing else uses it, and
// there are no keys to it, so the roles below are all the access there is.
param name string
param location string
param tags object
param principalId string
param operatorsGroupId string

var packageContainer = 'app-package'
var queueNames = [
  'outlook-changes'
  'outlook-changes-poison'
  'subscription-lifecycle'
  'subscription-lifecycle-poison'
  'sweeps'
  'sweeps-poison'
]

// Source of the ids: Azure, "Azure built-in roles", Storage.
var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var queueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

// The host demands Blob Data Owner on its account. For queues, Message Processor with Message Sender would be
// narrower, but the host hides a message that failed by updating it, and updating is the right of neither (as shared
// access signatures put it: update is a right besides process). Not tried; so Contributor.
var appRoles = [blobDataOwner, queueDataContributor, tableDataContributor]
// Operators release and discard what the ledger holds.
var operatorsRoles = [queueDataContributor, tableDataContributor]

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }

  resource blobs 'blobServices' = {
    name: 'default'

    resource packages 'containers' = {
      name: packageContainer
    }
  }

  resource queues 'queueServices' = {
    name: 'default'

    resource queue 'queues' = [for queueName in queueNames: {
      name: queueName
    }]
  }

  // The app creates its tables itself.
  resource tables 'tableServices' = {
    name: 'default'
  }
}

resource appRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in appRoles: {
  name: guid(account.id, principalId, role)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}]

resource operatorsRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in operatorsRoles: if (!empty(operatorsGroupId)) {
  name: guid(account.id, operatorsGroupId, role)
  scope: account
  properties: {
    principalId: operatorsGroupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}]

output name string = account.name
output packageContainer string = packageContainer
