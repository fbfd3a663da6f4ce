// The function app on Flex Consumption, and its settings. Runtime, scale and deployment stand in functionAppConfig;
// the settings that say such things elsewhere (FUNCTIONS_WORKER_RUNTIME and its like) are refused here.
param name string
param planName string
param location string
param tags object
param identityName string
param storageName string
param packageContainer string
param vaultName string
param insightsName string
param httpAlwaysReady int
param httpConcurrency int
param instanceMemoryMB int
param maximumInstanceCount int
param previousClientStateKeyVersion string

@description('Settings of the app that hold no secret; empty ones are left out, so that the defaults of the app apply.')
param settings object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: {
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: httpAlwaysReady > 0 ? [{ name: 'http', instanceCount: httpAlwaysReady }] : []
        triggers: {
          http: { perInstanceConcurrency: httpConcurrency }
        }
      }
    }
  }

  // Deployments use tokens; the publishing user name and password stay shut.
  resource basicPublishing 'basicPublishingCredentialsPolicies' = [for kind in ['ftp', 'scm']: {
    name: kind
    properties: { allow: false }
  }]
}

var secrets = '@Microsoft.KeyVault(SecretUri=${vault.properties.vaultUri}secrets'

// All of them, each time: whatever else was set by hand is gone after a deployment.
resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'appsettings'
  properties: union(
    {
      // For the host and the app's own clients.
      AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
      AzureWebJobsStorage__queueServiceUri: storage.properties.primaryEndpoints.queue
      AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      // For Graph and Dataverse: which identity azure-identity's DefaultAzureCredential takes.
      AZURE_CLIENT_ID: identity.properties.clientId
      APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      // Written by scripts/vault.py: the key after this deployment, the URL after that of the code.
      CLIENT_STATE_KEY: '${secrets}/client-state-key)'
      NOTIFICATION_URL: '${secrets}/notification-url)'
    },
    empty(previousClientStateKeyVersion)
      ? {}
      : { CLIENT_STATE_KEY_PREVIOUS: '${secrets}/client-state-key/${previousClientStateKeyVersion})' },
    toObject(filter(items(settings), setting => !empty(setting.value)), setting => setting.key, setting => setting.value)
  )
}

output name string = site.name
output uri string = 'https://${site.properties.defaultHostName}'
