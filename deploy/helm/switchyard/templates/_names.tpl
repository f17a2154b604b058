{{/* Names and what all pods have alike. */}}

{{- define "switchyard.name" -}}
{{- if contains "switchyard" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-switchyard" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "switchyard.labels" -}}
app.kubernetes.io/name: switchyard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "switchyard.selector" -}}
app.kubernetes.io/name: switchyard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "switchyard.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "switchyard.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "switchyard.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The configuration as it is mounted. */}}
{{- define "switchyard.config" -}}
{{- .Values.config | mustToPrettyJson }}
{{- end }}

{{/* Pods change with the configuration that they read at their start. */}}
{{- define "switchyard.annotations" -}}
switchyard.dev/config: {{ include "switchyard.config" . | sha256sum | quote }}
{{- if .Values.monitor.annotations }}
prometheus.io/scrape: 'true'
prometheus.io/port: {{ .Values.monitor.port | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{- define "switchyard.pod" -}}
serviceAccountName: {{ include "switchyard.account" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  # `node` of the image.
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: { type: RuntimeDefault }
volumes:
  - name: config
    configMap: { name: {{ include "switchyard.name" . }} }
  - name: tmp
    emptyDir: { sizeLimit: 1Gi }
{{- range .Values.secrets.files }}
  - name: {{ .name }}
    {{- if .secret }}
    secret: { secretName: {{ .secret }}, defaultMode: 0440 }
    {{- else }}
    configMap: { name: {{ .configMap }} }
    {{- end }}
{{- end }}
{{- end }}

{{- define "switchyard.container" -}}
image: {{ include "switchyard.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: config, mountPath: /etc/switchyard, readOnly: true }
  - { name: tmp, mountPath: /tmp }
{{- range .Values.secrets.files }}
  - { name: {{ .name }}, mountPath: {{ .path }}, readOnly: true }
{{- end }}
# Alive: all of its loops come round. A Redis that is away restarts nothing: that would lose the hand-over.
livenessProbe:
  httpGet: { path: /healthz, port: monitor }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
startupProbe:
  httpGet: { path: /healthz, port: monitor }
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /readyz, port: monitor }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "switchyard.env" -}}
- { name: SWITCHYARD_CONFIG, value: /etc/switchyard/switchyard.config.json }
- { name: SWITCHYARD_MONITOR_HOST, value: {{ .Values.bindAddress | quote }} }
- { name: SWITCHYARD_MONITOR_PORT, value: {{ .Values.monitor.port | quote }} }
{{- with .Values.redis.url }}
- { name: SWITCHYARD_REDIS_URL, value: {{ . | quote }} }
{{- end }}
{{- end }}

{{- define "switchyard.redisSecret" -}}
{{- with .Values.secrets.redis }}
- secretRef: { name: {{ . }} }
{{- end }}
{{- end }}
