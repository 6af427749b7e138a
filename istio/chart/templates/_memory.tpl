{{- /* Bytes of a quantity of memory. */ -}}
{{- define "egress-warden.bytes" -}}
{{- $text := kindIs "string" . | ternary . (int64 . | toString) -}}
{{- $unit := regexReplaceAll "^[0-9]+" $text "" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if not (and (regexMatch "^[0-9]" $text) (hasKey $units $unit)) -}}
{{- fail (printf "%s is no quantity of memory" $text) -}}
{{- end -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units $unit) -}}
{{- end -}}
{{- /* Bytes that Envoy's heap may take. */ -}}
{{- define "egress-warden.heap" -}}
{{- $limit := dig "limits" "memory" "" .Values.gateway.resources -}}
{{- if not $limit -}}
{{- fail "gateway.resources.limits.memory: state it, what Envoy does as its memory fills is counted from it" -}}
{{- end -}}
{{- max (sub (include "egress-warden.bytes" $limit | int64) 155271328) 134217728 -}}
{{- end -}}
