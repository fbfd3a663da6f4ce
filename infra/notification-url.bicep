// Puts the public URL of `notifications`, with its function key, into the vault. The key exists only once the code is
// deployed; Azure Resource Manager reads it and writes the secret, so it passes through no terminal, shell or log.
// Deployed to the resource group by scripts/vault.py.
param appName string
param vaultName string

@description('Which of its function keys, by its name: Azure makes `default`, a person others.')
param keyName string = 'default'

resource site 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName

  resource notifications 'functions' existing = {
    name: 'notifications'
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource notificationUrl 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'notification-url'
  properties: {
    value: 'https://${site.properties.defaultHostName}/api/notifications?code=${uriComponent(site::notifications.listKeys()[keyName])}'
  }
}
