// Who the app is, towards Azure, Graph and Dataverse alike. User-assigned, so that it exists, with all its grants,
// before the app does, and survives it.
param name string
param location string
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

output name string = identity.name
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
