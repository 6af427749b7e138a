//! What a pod may not say. The injector has run before these expressions see the pod, so
//! Istio's own containers are among those that they look at.

use serde_json::{Value, json};

use super::{Check, SPEC_CHANGED, check, quoted};
use crate::install::Guardrails;

pub(super) fn variables() -> Value {
    let of = |field: &str| format!("(has(object.spec.{field}) ? object.spec.{field} : [])");
    let metadata = |field: &str| {
        json!({
            "name": field,
            "expression": format!("has(object.metadata.{field}) ? object.metadata.{field} : {{}}"),
        })
    };
    let started = format!("{} + {}", of("containers"), of("initContainers"));
    json!([
        metadata("annotations"),
        metadata("labels"),
        {"name": "started", "expression": started},
        {
            "name": "containers",
            "expression": format!("{started} + {}", of("ephemeralContainers")),
        },
        {"name": "volumes", "expression": of("volumes")},
    ])
}

/// A binding without anything that Istio or a CNI plugin reads.
pub(super) fn binding() -> Check {
    let clean = |field: &str| {
        format!(
            "(!has(object.metadata.{field}) || object.metadata.{field}.all(key, \
             !key.contains('istio.io/') && !key.contains('cni.cncf.io/')))"
        )
    };
    check(
        format!("{} && {}", clean("annotations"), clean("labels")),
        "what a scheduler binds a pod with must not change how its traffic is captured",
    )
}

/// Annotations that change what is captured, with the value that changes nothing. With Istio's
/// CNI plugin the injector writes the first two itself.
const CAPTURE: [(&str, &str); 9] = [
    ("sidecar.istio.io/interceptionMode", "REDIRECT"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
    ("traffic.sidecar.istio.io/includeOutboundPorts", ""),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", ""),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ""),
    ("traffic.sidecar.istio.io/excludeInterfaces", ""),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", ""),
    ("istio.io/reroute-virtual-interfaces", ""),
    ("sidecar.istio.io/bootstrapOverride", ""),
];

/// Fields of `proxy.istio.io/config`, in both spellings that Istio reads, by which a pod leaves
/// the mesh's control plane, its redirection or its Envoy, or has its sidecar connect to a collector
/// of its own. Every field for one has `address` in its name, but for the last ones.
const PROXY_CONFIG: [&str; 19] = [
    "interceptionMode",
    "interception_mode",
    "DISABLE_ENVOY",
    "binaryPath",
    "binary_path",
    "configPath",
    "config_path",
    "customConfigFile",
    "custom_config_file",
    "proxyBootstrapTemplatePath",
    "proxy_bootstrap_template_path",
    "address",
    "Address",
    "datadog",
    "lightstep",
    "openCensusAgent",
    "readinessProbe",
    "readiness_probe",
    "stackdriver",
];

const PROXY: &str = "proxy.istio.io/config";
const TEMPLATES: &str = "inject.istio.io/templates";
const INJECT: &str = "sidecar.istio.io/inject";

/// Whether anything that the checks look at is another than before. Of a pod that exists these are
/// images and ephemeral containers, and what Istio's CNI plugin reads whenever it makes the pod's
/// network. Variables are not known yet where this is evaluated.
pub(super) fn changed() -> String {
    let annotations = CAPTURE.iter().map(|(key, _)| *key);
    let annotations = annotations.chain([PROXY, TEMPLATES, INJECT]);
    let annotations: Vec<_> = annotations.map(|key| format!("'{key}'")).collect();
    format!(
        "{SPEC_CHANGED} || {} || {}",
        differs("annotations", &annotations.join(", ")),
        differs("labels", &format!("'{INJECT}'")),
    )
}

/// Whether one of these keys is set otherwise than before.
fn differs(map: &str, keys: &str) -> String {
    let value = |object: &str| {
        let map = format!("{object}.metadata.{map}");
        format!("(has({map}) && key in {map} ? [{map}[key]] : [])")
    };
    let (now, before) = (value("object"), value("oldObject"));
    format!("[{keys}].exists(key, {now} != {before})")
}

pub(super) fn checks(guardrails: &Guardrails) -> Vec<Check> {
    let mut checks = metadata();
    checks.extend(pod());
    checks.extend(istios_own(guardrails));
    checks.extend(containers());
    checks.extend(by_the_node(guardrails));
    checks
}

/// Volumes whose server the node's kernel, a driver or kubelet connects to.
const FAR_VOLUMES: [&str; 19] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
];

/// What kubelet and the node's kernel would connect to for the pod. No guard stands there.
fn by_the_node(guardrails: &Guardrails) -> Vec<Check> {
    let action = |at: &str| {
        format!(
            "(!has({at}.httpGet) || !has({at}.httpGet.host) || {at}.httpGet.host == '') && \
             (!has({at}.tcpSocket) || !has({at}.tcpSocket.host) || {at}.tcpSocket.host == '')"
        )
    };
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"]
        .map(|probe| format!("(!has(c.{probe}) || ({}))", action(&format!("c.{probe}"))));
    let hooks = ["postStart", "preStop"].map(|hook| {
        let at = format!("c.lifecycle.{hook}");
        format!("(!has({at}) || ({}))", action(&at))
    });
    let far = FAR_VOLUMES.iter().chain(&["vsphereVolume"]);
    let far: Vec<_> = far.map(|kind| format!("!has(v.{kind})")).collect();
    let mut checks = vec![
        check(
            format!(
                "variables.containers.all(c, {} && (!has(c.lifecycle) || ({})))",
                probes.join(" && "),
                hooks.join(" && ")
            ),
            "kubelet connects to the host of a probe or hook, past every guard: leave it out, then it \
             is the pod itself",
        ),
        check(
            format!("variables.volumes.all(v, {})", far.join(" && ")),
            "the node connects to the server of such a volume, past every guard: use a \
             PersistentVolumeClaim",
        ),
        check(
            format!(
                "variables.volumes.all(v, !has(v.csi) || v.csi.driver in {})",
                quoted(&guardrails.csi_drivers)
            ),
            "a CSI driver connects to where the pod says, past every guard: the platform lists drivers \
             that pods may use inline (guardrails.csiDrivers)",
        ),
    ];
    if !guardrails.image_registries.is_empty() {
        let from = |image: &str| {
            let registries = guardrails.image_registries.iter();
            let own = guardrails.proxy_images.iter();
            let own = own.flat_map(|image| [format!("{image}:"), format!("{image}@")]);
            let prefixes: Vec<_> = registries
                .map(|registry| format!("{registry}/"))
                .chain(own)
                .map(|prefix| format!("{image}.startsWith('{prefix}')"))
                .collect();
            prefixes.join(" || ")
        };
        checks.push(check(
            format!(
                "variables.containers.all(c, !has(c.image) || {}) && variables.volumes.all(v, \
                 !has(v.image) || !has(v.image.reference) || {})",
                from("c.image"),
                from("v.image.reference")
            ),
            "the node pulls images from where the pod says, past every guard: the platform lists \
             registries (guardrails.imageRegistries)",
        ));
    }
    checks
}

fn metadata() -> Vec<Check> {
    let capture = CAPTURE.map(|(key, value)| {
        format!(
            "(!('{key}' in variables.annotations) || variables.annotations['{key}'] == '{value}')"
        )
    });
    let fields = PROXY_CONFIG.map(|field| format!("'{field}'")).join(", ");
    let injected = |map: &str| {
        check(
            format!("!('{INJECT}' in variables.{map}) || variables.{map}['{INJECT}'] == 'true'"),
            "a pod without a sidecar has no way out; sidecar.istio.io/inject must be true",
        )
    };
    vec![
        check(
            capture.join(" && "),
            "annotations that change what the sidecar captures are not allowed here",
        ),
        // A backslash can spell a field's name in a way that no search finds.
        check(
            format!(
                "!('{PROXY}' in variables.annotations) || !['\\\\', {fields}].exists(\
                 field, variables.annotations['{PROXY}'].contains(field))"
            ),
            "proxy.istio.io/config must not change where the sidecar gets its configuration, \
             what it captures or what it runs",
        ),
        check(
            format!(
                "!('{TEMPLATES}' in variables.annotations) || \
                 variables.annotations['{TEMPLATES}'] == 'sidecar' || \
                 variables.annotations['{TEMPLATES}'].startsWith('sidecar,')"
            ),
            "injection templates must begin with sidecar: others make pods that are not redirected",
        ),
        injected("annotations"),
        injected("labels"),
    ]
}

fn pod() -> Vec<Check> {
    vec![
        check(
            "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
            "hostNetwork pods are not redirected to a sidecar and not guarded",
        ),
        // A process of the node with the same user and no capabilities can be traced.
        check(
            "!has(object.spec.hostPID) || !object.spec.hostPID",
            "hostPID reaches processes of the node, which are not guarded",
        ),
        // A link in any folder of the node leads to any other folder of it.
        check(
            "variables.volumes.all(v, !has(v.hostPath))",
            "a hostPath volume can reach the node's runtime, its network namespaces and the guard",
        ),
        check(
            "!has(object.spec.securityContext) || \
             ((!has(object.spec.securityContext.runAsUser) || \
             object.spec.securityContext.runAsUser != 1337) && \
             (!has(object.spec.securityContext.runAsGroup) || \
             object.spec.securityContext.runAsGroup != 1337))",
            USER,
        ),
        // A member of a group can make a program that runs as that group.
        check(
            "!has(object.spec.securityContext) || \
             ((!has(object.spec.securityContext.fsGroup) || \
             object.spec.securityContext.fsGroup != 1337) && \
             (!has(object.spec.securityContext.supplementalGroups) || \
             !(1337 in object.spec.securityContext.supplementalGroups)))",
            USER,
        ),
    ]
}

const USER: &str = "user and group 1337 are the sidecar's: what they send is not redirected";

/// Names of Istio's containers are for what the injector makes. The checks that come after this
/// one go by the name alone, since a pod with somebody else under that name is refused here.
fn istios_own(guardrails: &Guardrails) -> Vec<Check> {
    let images: Vec<_> = guardrails
        .proxy_images
        .iter()
        .map(|image| format!("c.image.startsWith('{image}:') || c.image.startsWith('{image}@')"))
        .collect();
    let image = format!("has(c.image) && ({})", images.join(" || "));
    let names = "['istio-proxy', 'istio-init', 'istio-validation']";
    // The image's own entry point is pilot-agent, whose other commands take the rules away.
    let arguments = "has(c.args) && (c.name == 'istio-proxy' ? \
                     c.args.size() > 1 && c.args[0] == 'proxy' && c.args[1] == 'sidecar' : \
                     c.args.size() > 0 && c.args[0] == 'istio-iptables')";
    let hook = |hook: &str| {
        format!(
            "(!has(c.lifecycle.{hook}) || !has(c.lifecycle.{hook}.exec) || \
             c.lifecycle.{hook}.exec.command[0] == 'pilot-agent')"
        )
    };
    let probe = |probe: &str| format!("(!has(c.{probe}) || !has(c.{probe}.exec))");
    let mut checks = vec![
        check(
            format!(
                "variables.containers.all(c, !(c.name in {names}) || \
                 (variables.started.exists(s, s.name == c.name) && {image} && \
                 !has(c.command) && {arguments}))"
            ),
            "the names istio-proxy, istio-init and istio-validation are for Istio's own \
             containers: its image, no command, its arguments",
        ),
        check(
            format!(
                "variables.started.all(c, !(c.name in {names}) || \
                 ((!has(c.lifecycle) || ({} && {})) && {} && {} && {}))",
                hook("postStart"),
                hook("preStop"),
                probe("startupProbe"),
                probe("livenessProbe"),
                probe("readinessProbe"),
            ),
            "hooks and probes of Istio's containers run as a user that is not redirected: only \
             pilot-agent may",
        ),
        check(
            "variables.started.all(c, c.name != 'istio-proxy' || !has(c.env) || \
             !c.env.exists(e, e.name == 'DISABLE_ENVOY'))",
            "DISABLE_ENVOY keeps Istio's CNI plugin from redirecting the pod",
        ),
    ];
    if guardrails.istio_cni {
        checks.push(check(
            "variables.containers.all(c, c.name != 'istio-init')",
            "a container named istio-init keeps Istio's CNI plugin from redirecting the pod",
        ));
    }
    checks
}

fn containers() -> Vec<Check> {
    vec![
        check(
            "variables.containers.all(c, c.name in ['istio-proxy', 'istio-validation'] || \
             !has(c.securityContext) || \
             ((!has(c.securityContext.runAsUser) || c.securityContext.runAsUser != 1337) && \
             (!has(c.securityContext.runAsGroup) || c.securityContext.runAsGroup != 1337)))",
            USER,
        ),
        check(
            "variables.containers.all(c, !has(c.securityContext) || \
             !has(c.securityContext.privileged) || !c.securityContext.privileged)",
            "a privileged container can undo the redirection to the sidecar",
        ),
        check(
            "variables.containers.all(c, c.name == 'istio-init' || !has(c.securityContext) || \
             !has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) || \
             !c.securityContext.capabilities.add.exists(name, \
             name.upperAscii().replace('CAP_', '') in ['NET_ADMIN', 'NET_RAW']))",
            "NET_ADMIN and NET_RAW can undo the redirection to the sidecar",
        ),
        check(
            "variables.containers.all(c, !has(c.securityContext) || \
             !has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) || \
             !c.securityContext.capabilities.add.exists(name, \
             name.upperAscii().replace('CAP_', '') in \
             ['ALL', 'SYS_ADMIN', 'SYS_MODULE', 'SYS_PTRACE', 'BPF', 'DAC_READ_SEARCH']))",
            "ALL, SYS_ADMIN, SYS_MODULE, SYS_PTRACE, BPF and DAC_READ_SEARCH reach beyond the \
             container",
        ),
    ]
}
