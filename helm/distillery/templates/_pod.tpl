{{/* What both programs and the test share: Pod Security `restricted`. */}}
{{- define "distillery.pod.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch         # else each mount opens the ledger's files to the group again
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "distillery.container.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
  - ALL
{{- end }}

{{- define "distillery.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 8
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}

{{/* Access to an object store, from the Secret of this name. */}}
{{- define "distillery.store.environment" -}}
{{- range $key, $optional := dict "AWS_ACCESS_KEY_ID" false "AWS_SECRET_ACCESS_KEY" false "AWS_SESSION_TOKEN" true "AWS_REGION" true "AWS_ENDPOINT_URL" true }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $ }}
      key: {{ $key }}
      optional: {{ $optional }}
{{- end }}
{{- end }}

{{/* Where the pods may run. */}}
{{- define "distillery.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The catalogue of terms, in both programs. */}}
{{- define "distillery.terms.flags" -}}
- --terms=/etc/distillery/terms/catalogue.yaml
{{- if .Values.terms.override }}
- --terms-override=/etc/distillery/terms/override.yaml
{{- end }}
{{- end }}

{{- define "distillery.terms.mount" -}}
- name: terms
  mountPath: /etc/distillery/terms
  readOnly: true
{{- end }}

{{- define "distillery.terms.volume" -}}
- name: terms
  configMap:
    name: {{ include "distillery.fullname" . }}-terms
{{- end }}

{{/* A changed catalogue is read by a new pod. */}}
{{- define "distillery.terms.checksum" -}}
distillery.dev/terms: {{ include (print $.Template.BasePath "/configmaps.yaml") . | sha256sum | trunc 16 }}
{{- end }}
