// The vault of the app's two secrets, client-state-key and notification-url. The app may read them, and operators,
// whose commands compare subscriptions with them; scripts/vault.py writes them through Azure Resource Manager, which
// takes no role on the data. They are not declared here, because every deployment would then have to know, or would
// renew, what must stay the same.
param name string
param location string
param tags object
param principalId string
param operatorsGroupId string

// Source of the id: Azure, "Azure built-in roles", Security.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    // No purge protection: both secrets can be made again, and an `azd down --purge` has to free the name.
    softDeleteRetentionInDays: 7
  }
}

resource appRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, principalId, secretsUser)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

resource operatorsRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorsGroupId)) {
  name: guid(vault.id, operatorsGroupId, secretsUser)
  scope: vault
  properties: {
    principalId: operatorsGroupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

output name string = vault.name
