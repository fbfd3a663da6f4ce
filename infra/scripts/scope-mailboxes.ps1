<#
.SYNOPSIS
Limits the app to the mailboxes of one group, in Exchange Online.

.DESCRIPTION
Shows what is there and what is to be done with -WhatIf; run again, it does only what is missing. Not run against a real
tenant. It needs the module ExchangeOnlineManagement, an Exchange administrator and, before it:

    Connect-ExchangeOnline

Two ways, never both, because a grant in Entra and one in Exchange add up:

AccessPolicy  An application access policy narrows the permission Calendars.Read that grant_graph.py granted in Entra.
              It takes an hour or more to have effect; a mailbox outside then answers 403.
Rbac          "RBAC for Applications" grants `Application Calendars.Read` for the group alone; do NOT run
              grant_graph.py. It is to replace access policies. Unsure: whether Graph creates subscriptions for an app
              that has only this; see that renew_subscriptions does, before relying on it.

.EXAMPLE
./scope-mailboxes.ps1 -ClientId CLIENT-ID -PrincipalId PRINCIPAL-ID -Group technicians@contoso.com -WhatIf

.LINK
https://learn.microsoft.com/graph/auth-limit-mailbox-access
https://learn.microsoft.com/exchange/permissions-exo/application-rbac
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    # Client (application) id of the identity: SERVICE_APP_IDENTITY_CLIENT_ID of the azd environment.
    [Parameter(Mandatory)] [guid] $ClientId,
    # Object id of the identity: SERVICE_APP_IDENTITY_PRINCIPAL_ID of the azd environment.
    [Parameter(Mandatory)] [guid] $PrincipalId,
    # Mail-enabled security group of those who are booked.
    [Parameter(Mandatory)] [string] $Group,
    [ValidateSet('AccessPolicy', 'Rbac')] [string] $Way = 'AccessPolicy',
    # A mailbox inside or outside the group, to ask Exchange about at the end.
    [string] $TestMailbox
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$name = 'booking-sync'
$role = 'Application Calendars.Read'

if ($Way -eq 'AccessPolicy') {
    $existing = Get-ApplicationAccessPolicy -ErrorAction SilentlyContinue | Where-Object { $_.AppId -eq "$ClientId" }
    if ($existing) {
        Write-Output "An access policy for $ClientId exists already, for $($existing.ScopeName): nothing to do"
    }
    elseif ($PSCmdlet.ShouldProcess($Group, "Restrict $ClientId to the mailboxes of this group")) {
        New-ApplicationAccessPolicy -AppId "$ClientId" -PolicyScopeGroupId $Group -AccessRight RestrictAccess `
            -Description "$name reads the calendars of those who are booked, and no others"
    }
    if ($TestMailbox -and -not $WhatIfPreference) {
        Test-ApplicationAccessPolicy -AppId "$ClientId" -Identity $TestMailbox
    }
    return
}

if (-not (Get-ServicePrincipal -ErrorAction SilentlyContinue | Where-Object { $_.AppId -eq "$ClientId" })) {
    if ($PSCmdlet.ShouldProcess("$ClientId", 'Make the identity known to Exchange')) {
        New-ServicePrincipal -AppId "$ClientId" -ObjectId "$PrincipalId" -DisplayName $name
    }
}
if (-not (Get-ManagementScope -Identity $name -ErrorAction SilentlyContinue)) {
    $members = (Get-Group -Identity $Group).DistinguishedName
    if ($PSCmdlet.ShouldProcess($name, "Make a scope of the members of $members")) {
        New-ManagementScope -Name $name -RecipientRestrictionFilter "MemberOfGroup -eq '$members'"
    }
}
$assigned = Get-ManagementRoleAssignment -Role $role -ErrorAction SilentlyContinue |
    Where-Object { $_.CustomResourceScope -eq $name }
if ($assigned) {
    Write-Output "$role is assigned already within the scope $name"
}
elseif ($PSCmdlet.ShouldProcess("$ClientId", "Assign $role within the scope $name")) {
    New-ManagementRoleAssignment -App "$PrincipalId" -Role $role -CustomResourceScope $name
}
if ($TestMailbox -and -not $WhatIfPreference) {
    Test-ServicePrincipalAuthorization -Identity "$ClientId" -Resource $TestMailbox
}
