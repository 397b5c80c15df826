{{/* Labels of every object. */}}
{{- define "culvert.labels" -}}
app.kubernetes.io/name: culvert
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: culvert
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels of pods: nothing that changes with the chart's version alone, which would replace every pod. */}}
{{- define "culvert.podLabels" -}}
istio.io/dataplane-mode: none
sidecar.istio.io/inject: 'false'
app.kubernetes.io/name: culvert
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: culvert
{{- end }}

{{- define "culvert.image" -}}
{{ with .Values.image.hub }}{{ . }}/{{ end }}{{ .Values.image.name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Image of a container, and when it is pulled. */}}
{{- define "culvert.container" -}}
image: {{ include "culvert.image" . | quote }}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* A value that platforms differ in: set, else the platform's, else the usual one. Argument: [context, name of the value]. */}}
{{- define "culvert.platform" -}}
{{- $context := index . 0 }}{{ $name := index . 1 }}
{{- $platforms := $context.Files.Get "files/platforms.yaml" | fromYaml }}
{{- $platform := get $platforms ($context.Values.global.platform | default "default") }}
{{- $value := get $context.Values $name }}
{{- if eq (toString $value) "" }}{{ $value = hasKey $platform $name | ternary (get $platform $name) (get $platforms.default $name) }}{{ end }}
{{- $value }}
{{- end }}

{{/* Where pods of a part may run. Argument: the part's values. */}}
{{- define "culvert.scheduling" -}}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
terminationGracePeriodSeconds: {{ .terminationGracePeriodSeconds }}
{{- end }}

{{/* Profiles of a container. Argument: the part's values. */}}
{{- define "culvert.profiles" -}}
{{- with .seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Variables that the user adds. Argument: the part's values. */}}
{{- define "culvert.env" -}}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
