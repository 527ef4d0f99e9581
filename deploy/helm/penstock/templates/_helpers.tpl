{{/* Names and labels: {{ include "penstock.labels" (list . "gateway") }} */}}
{{- define "penstock.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "penstock.meta" -}}
{{- $root := index . 0 -}}
name: {{ $root.Release.Name }}-{{ index . 1 }}
labels:
  {{- include "penstock.labels" . | nindent 2 }}
{{- end -}}

{{/* Nobody is root, nobody writes to its image, nobody asks for more. */}}
{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Alive and ready, on the metrics listener. */}}
{{- define "penstock.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* Replicas on different machines, if there are as many. */}}
{{- define "penstock.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "penstock.labels" . | nindent 8 }}
{{- end -}}

{{- define "penstock.disruption" -}}
{{- $root := index . 0 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "penstock.meta" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "penstock.labels" . | nindent 6 }}
{{- end -}}

{{/* What each orchestrator is told that it is reached at, by commas: {{ include "penstock.orchestrators" . | splitList "," }} */}}
{{- define "penstock.orchestrators" -}}
{{- $root := . -}}
{{- $name := printf "%s-orchestrator" .Release.Name -}}
{{- range $n := until (int .Values.orchestrator.replicas) -}}
{{- if $n }},{{ end -}}
{{- include "penstock.orchestrator" $root | replace "$(POD_NAME)" (printf "%s-%d" $name $n) -}}
{{- end -}}
{{- end -}}

{{/* The same of any of them, with its name still to be put in. */}}
{{- define "penstock.orchestrator" -}}
{{- .Values.orchestrator.serviceAddress | default (printf "https://$(POD_NAME).%s-orchestrator:8935" .Release.Name) -}}
{{- end -}}
