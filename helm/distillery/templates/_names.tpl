{{- define "distillery.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for "-operator" and a ReplicaSet's hash behind it. */}}
{{- define "distillery.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "distillery.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "distillery.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "distillery.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "distillery.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: distillery
{{- end }}

{{- define "distillery.selector" -}}
app.kubernetes.io/name: {{ include "distillery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "distillery.operator.account" -}}
{{- with .Values.operator.serviceAccount -}}
{{- if .create }}{{ default (printf "%s-operator" (include "distillery.fullname" $)) .name }}{{ else }}{{ required "operator.serviceAccount.name is needed where create is false" .name }}{{ end }}
{{- end }}
{{- end }}

{{- define "distillery.gateway.account" -}}
{{- with .Values.gateway.serviceAccount -}}
{{- if .create }}{{ default (printf "%s-gateway" (include "distillery.fullname" $)) .name }}{{ else }}{{ required "gateway.serviceAccount.name is needed where create is false" .name }}{{ end }}
{{- end }}
{{- end }}

{{- define "distillery.backup.account" -}}
{{- with .Values.gateway.ledger.backup.serviceAccount -}}
{{- if .create }}{{ default (printf "%s-backup" (include "distillery.fullname" $)) .name }}{{ else }}{{ required "gateway.ledger.backup.serviceAccount.name is needed where create is false" .name }}{{ end }}
{{- end }}
{{- end }}

{{- define "distillery.image.operator" -}}
{{ required "image.operator is needed: the full reference of the image that `make images` or operator/Dockerfile built and that your nodes can pull" .Values.image.operator }}
{{- end }}

{{- define "distillery.image.trainer" -}}
{{ required "image.trainer is needed: the full reference of the image that `make images` or trainer_image/Dockerfile built and that your nodes can pull" .Values.image.trainer }}
{{- end }}

{{/* What the ledger stands in: "sqlite", "postgres", or nothing. */}}
{{- define "distillery.ledger" -}}
{{- with .Values.gateway -}}
{{- if and (gt (int .replicas) 1) (not (and .ledger.enabled .ledger.postgres.secret)) -}}
{{- fail (printf "gateway.replicas is %d, but only a ledger in Postgres can be shared: set gateway.ledger.postgres.secret, or gateway.replicas to 1" (int .replicas)) -}}
{{- end -}}
{{- if .ledger.enabled -}}{{ if .ledger.postgres.secret }}postgres{{ else }}sqlite{{ end }}{{- end -}}
{{- end -}}
{{- end }}

{{- define "distillery.ledger.claim" -}}
{{- default (printf "%s-ledger" (include "distillery.fullname" .)) .Values.gateway.ledger.sqlite.existingClaim }}
{{- end }}
