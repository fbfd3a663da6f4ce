// What somebody should be told without looking. Requests are the Functions host's, metrics the app's own
// (sync/telemetry/spans.py); neither is sampled, as the log is (host.json), in which the one line that matters may be missing.
param namePrefix string
param location string
param tags object
param workspaceName string
param storageName string
param email string

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspaceName
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: namePrefix
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'bookingsync'
    enabled: true
    emailReceivers: [{ name: 'mail', emailAddress: email, useCommonAlertSchema: true }]
  }
}

// Each query answers one row, also when nothing was logged, so that silence can be an alert.
var rules = [
  {
    name: 'parked'
    description: 'Changes were given up; their messages are in a poison queue. python -m sync poison tells the reasons.'
    severity: 2
    every: 'PT5M'
    // What the app gives up is told at once; what lies there, whoever gave it up, hourly: so it stays until they are gone.
    window: 'PT2H'
    query: '''
      AppMetrics
      | where Name == "booking_sync.parked" or Name == "booking_sync.poison"
      | summarize Count = sum(Sum)
    '''
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'failures'
    description: 'Functions fail. What strangers send wrongly (4xx) is not counted.'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    query: '''
      AppRequests
      | where Name != "receive" and Name !startswith "process " // the app's own, which the host counts as well
      | where Success == false and not(ResultCode startswith "4")
      | summarize Count = sum(ItemCount)
    '''
    operator: 'GreaterThan'
    threshold: 5
  }
  {
    name: 'renewal'
    description: 'renew_subscriptions, due hourly, has not succeeded for three hours. Subscriptions end within a week.'
    severity: 1
    every: 'PT30M'
    window: 'PT3H'
    query: '''
      AppRequests
      | where OperationName == "renew_subscriptions" and Success == true
      | summarize Count = sum(ItemCount)
    '''
    operator: 'LessThan'
    threshold: 1
  }
  {
    name: 'unsubscribed'
    description: 'Mailboxes could not be subscribed in four hourly runs in a row. python -m sync subscriptions names them.'
    severity: 2
    every: 'PT1H'
    window: 'PT4H'
    query: '''
      AppMetrics
      | where Name == "booking_sync.subscriptions" and Properties.state == "failed" and Sum > 0
      | summarize Count = sum(ItemCount)
    '''
    operator: 'GreaterThan'
    threshold: 3
  }
  {
    name: 'silence'
    description: 'No change notification has come for two days. Where nobody works for longer than that, this is no trouble.'
    severity: 1
    every: 'PT1H'
    window: 'P2D'
    query: '''
      AppMetrics
      | where Name == "booking_sync.notifications" and Properties.fate == "received"
      | summarize Count = sum(Sum)
    '''
    operator: 'LessThan'
    threshold: 1
  }
  {
    name: 'lag'
    description: 'A change was processed, or put back once more, later than half an hour after it was notified, or found by a sweep.'
    severity: 2
    every: 'PT15M'
    window: 'PT30M'
    query: '''
      AppMetrics
      | where Name == "booking_sync.change.age" and Max > 1800
      | summarize Count = sum(ItemCount)
    '''
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'drift'
    description: 'In a day the sweeps found more than 20 differences that no notification had brought.'
    severity: 3
    every: 'PT1H'
    window: 'P1D'
    query: '''
      AppMetrics
      | where Name == "booking_sync.drift" and Properties.fate == "queued"
      | summarize Count = sum(Sum)
    '''
    operator: 'GreaterThan'
    threshold: 20
  }
]

resource logAlert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: '${namePrefix}-${rule.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'booking-sync: ${rule.name}'
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [workspace.id]
    evaluationFrequency: rule.every
    windowSize: rule.window
    autoMitigate: true
    // A new workspace has no tables yet.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: rule.query
          metricMeasureColumn: 'Count'
          timeAggregation: 'Total'
          operator: rule.operator
          threshold: rule.threshold
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: empty(email) ? [] : [people.id] }
  }
}]

// The only queue length that Azure measures: all queues of the account, poison included, once an hour.
resource backlog 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${namePrefix}-backlog'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages pile up in the queues.'
    severity: 2
    enabled: true
    scopes: ['${storage.id}/queueServices/default']
    evaluationFrequency: 'PT1H'
    windowSize: 'PT6H'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'messages'
          metricNamespace: 'Microsoft.Storage/storageAccounts/queueServices'
          metricName: 'QueueMessageCount'
          timeAggregation: 'Average'
          operator: 'GreaterThan'
          threshold: 1000
        }
      ]
    }
    actions: empty(email) ? [] : [{ actionGroupId: people.id }]
  }
}
