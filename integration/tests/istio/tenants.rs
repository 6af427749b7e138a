//! A tenant's objects that take the gateway down or take others' traffic: what the control plane
//! makes of each, what the scope of guarded sidecars leaves of it, and what the admission policies
//! say to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use anyhow::{Context, Result, bail, ensure};
use egress_render::{Install, Rendered, refusals};
use integration::client;
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::sandbox;
use serde_json::Value;

cases!(
    &[Program::Istiod];
    what_a_tenant_takes_is_out_of_scope_and_refused,
    a_call_under_strict_mtls_works_with_the_scope_and_without,
);

/// An attack.
struct Attack {
    name: &'static str,
    objects: &'static str,
    /// Whether the proxies' configuration shows that it works.
    works: fn(gateway: &Value, sidecar: &Value) -> bool,
    /// Whether sidecars that do not see the tenant's namespace are safe from it.
    scoped: bool,
    /// The kind that the admission policies refuse, and a part of what they say.
    refused: (&'static str, &'static str),
}

const ATTACKS: [Attack; 5] = [
    Attack {
        name: "a machine with the address of the gateway's pod",
        objects: MACHINE,
        works: |gateway, _| {
            let listeners = listeners(gateway);
            let ours = ["0.0.0.0_8080", "0.0.0.0_8443"];
            listeners.contains(&"0.0.0.0_9999".to_owned())
                && ours
                    .iter()
                    .all(|own| !listeners.contains(&(*own).to_owned()))
        },
        scoped: false,
        refused: ("WorkloadEntry", "takes that pod's ports"),
    },
    Attack {
        name: "a headless Service with an outside endpoint",
        objects: HEADLESS,
        works: |_, sidecar| {
            let listener = listener(sidecar, "203.0.113.7_22").map(Value::to_string);
            listener.is_some_and(|text| text.contains("outbound|22||real.sales.svc.cluster.local"))
        },
        scoped: true,
        refused: (
            "EndpointSlice",
            "written by the cluster's controllers alone",
        ),
    },
    Attack {
        name: "routes for an address of IPv6",
        objects: ADDRESS,
        works: |_, sidecar| leads(sidecar, "[2001:db8::7]", "real.sales"),
        scoped: true,
        refused: (
            "VirtualService",
            "must not be given routes for outside hosts",
        ),
    },
    Attack {
        name: "a Service with an outside name",
        objects: NAME,
        works: |_, sidecar| leads(sidecar, "web.dev", "web.dev.svc"),
        scoped: true,
        refused: ("Namespace", "called like a top-level domain"),
    },
    Attack {
        name: "HTTP on the port of SSH",
        objects: PORT,
        works: |_, sidecar| {
            let listener = listener(sidecar, "0.0.0.0_22").map(Value::to_string);
            listener.is_some_and(|text| text.contains("http_inspector"))
        },
        scoped: true,
        refused: ("Service", "this port carries opaque TCP"),
    },
];

/// What guarded sidecars saw before they were scoped.
const EVERYTHING: &str = "*/*";

/// The rendered manifests with a `Sidecar` that sees these hosts as well.
fn seeing(rendered: &Rendered, hosts: &str) -> Result<String> {
    let (text, own) = (rendered.yaml(), "    - istio-system/*\n");
    ensure!(text.contains(own), "the scope is written otherwise");
    Ok(text.replace(own, &format!("{own}    - \"{hosts}\"\n")))
}

/// Settings by which guarded sidecars see the tenant's namespace.
fn seen(install: &Install) -> Install {
    let mut install = install.clone();
    install.spec.workloads.mesh_hosts = Some(vec!["sales".to_owned()]);
    install
}

fn what_a_tenant_takes_is_out_of_scope_and_refused() -> Result<()> {
    let install = install()?;
    let policies = [reference::policy()?];
    let scoped = reference::of(&install, &policies)?;
    let admitting = reference::of(&seen(&install), &policies)?;
    let mut bench = Bench::start(&Plan::of(&scoped))?;
    for attack in ATTACKS {
        attack
            .is_mended(&mut bench, &scoped, &admitting)
            .context(attack.name)?;
    }
    // A namespace that is called like a domain cannot be made visible by a slip either.
    let mut slip = install;
    slip.spec.workloads.mesh_hosts = Some(vec!["dev".to_owned()]);
    let said = reference::of(&slip, &policies)
        .err()
        .map(|error| error.to_string());
    ensure!(
        said.is_some_and(|said| said.contains("web.dev")),
        "`dev` may be seen"
    );
    Ok(())
}

impl Attack {
    fn is_mended(&self, bench: &mut Bench, scoped: &Rendered, admitting: &Rendered) -> Result<()> {
        // Before: every sidecar sees every namespace, and nobody judges objects.
        self.comes_to(bench, seeing(scoped, EVERYTHING)?, true)
            .context("before")?;
        self.comes_to(bench, scoped.yaml(), !self.scoped)
            .context("with the scope")?;
        // Without it, the object itself is refused, and everything that is no attack is not.
        let (kind, message) = self.refused;
        let mut refused = 0;
        for object in serde_saphyr::from_multiple::<Value>(self.objects)? {
            let said =
                refusals(admitting, &object, "tenant").map_err(|e| anyhow::anyhow!("{e}"))?;
            if object.get("kind").and_then(Value::as_str) != Some(kind) {
                continue;
            }
            refused += usize::from(said.iter().any(|said| said.contains(message)));
        }
        ensure!(
            refused == 1,
            "{refused} objects of kind {kind} are refused by `{message}`"
        );
        Ok(())
    }

    /// With these manifests and the tenant's objects.
    fn comes_to(&self, bench: &mut Bench, manifests: String, works: bool) -> Result<()> {
        let mut plan = Plan::changed(manifests);
        plan.others = format!("{MARK}---{}", self.objects);
        bench.update(&plan)?;
        let mut last = (Value::Null, Value::Null);
        let reached = eventually("the proxies to be served", || {
            let served = |proxy: &str| bench.served(proxy).unwrap_or_default();
            last = (served("egress-0.istio-egress"), served("app1-0.app1-ns"));
            // A proxy that has come back has listeners and routes.
            let whole = [&last.0, &last.1].iter().all(|dump| {
                !listeners(dump).is_empty() && dump.to_string().contains("routeConfig")
            });
            whole && (self.works)(&last.0, &last.1) == works
        });
        reached.with_context(|| {
            let (gateway, sidecar) = (listeners(&last.0), listeners(&last.1));
            format!(
                "it should {}work; gateway {gateway:?}, sidecar {sidecar:?}",
                if works { "" } else { "not " }
            )
        })
    }
}

/// Entries of a part of a dump.
fn entries<'d>(dump: &'d Value, list: &str) -> Vec<&'d Value> {
    let configs = dump.get("configs").and_then(Value::as_array);
    let lists = configs
        .into_iter()
        .flatten()
        .filter_map(|config| config.get(list)?.as_array());
    lists.flatten().collect()
}

fn listeners(dump: &Value) -> Vec<String> {
    let names = entries(dump, "dynamicListeners").into_iter();
    names
        .filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned()))
        .collect()
}

fn listener<'d>(dump: &'d Value, name: &str) -> Option<&'d Value> {
    let mut all = entries(dump, "dynamicListeners").into_iter();
    all.find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
}

/// Whether requests for `domain` go to a cluster whose name has this part.
fn leads(dump: &Value, domain: &str, cluster: &str) -> bool {
    let configs = entries(dump, "dynamicRouteConfigs").into_iter();
    let hosts = configs.filter_map(|entry| entry.pointer("/routeConfig/virtualHosts")?.as_array());
    hosts.flatten().any(|host| {
        let domains = host.get("domains").and_then(Value::as_array);
        let for_it = domains.is_some_and(|domains| domains.contains(&Value::from(domain)));
        for_it
            && host
                .get("routes")
                .is_some_and(|routes| routes.to_string().contains(cluster))
    })
}

/// A namespace of tenants.
const MARK: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: sales}
";

const MACHINE: &str = "
apiVersion: v1
kind: Service
metadata: {name: mine, namespace: sales}
spec:
  clusterIP: 10.96.0.77
  selector: {app: grab}
  ports:
  - {name: http, port: 8080, targetPort: 9999}
  - {name: http2-tunnel, port: 8443, targetPort: 9998}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: grab, namespace: sales}
spec: {address: 10.244.0.2, labels: {app: grab}}
";

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: mine, namespace: sales}
spec:
  clusterIP: None
  ports: [{name: tcp-x, port: 22}]
---
apiVersion: v1
kind: Service
metadata: {name: real, namespace: sales}
spec:
  clusterIP: 10.96.0.78
  ports: [{name: tcp-x, port: 22}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine-1, namespace: sales, labels: {kubernetes.io/service-name: mine}}
addressType: IPv4
ports: [{name: tcp-x, port: 22, protocol: TCP}]
endpoints: [{addresses: [203.0.113.7], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: sales}
spec:
  hosts: [mine.sales.svc.cluster.local]
  tcp:
  - route: [{destination: {host: real.sales.svc.cluster.local, port: {number: 22}}}]
";

const ADDRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: real, namespace: sales}
spec:
  clusterIP: 10.96.0.78
  ports: [{name: http, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: sales}
spec:
  hosts: ['2001:db8::7']
  http:
  - route: [{destination: {host: real.sales.svc.cluster.local, port: {number: 80}}}]
";

const NAME: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: dev}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: dev}
spec:
  clusterIP: 10.96.0.79
  selector: {app: web}
  ports: [{name: http, port: 80}]
";

const PORT: &str = "
apiVersion: v1
kind: Service
metadata: {name: shell, namespace: sales}
spec:
  clusterIP: 10.96.0.80
  selector: {app: shell}
  ports: [{name: http, port: 22}]
";

/// What app2 offers to the mesh.
const SERVER: &str = "
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: app2-ns}
spec:
  clusterIP: 10.96.0.60
  selector: {app: app2}
  ports: [{name: http, port: 8000, targetPort: 8000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: orders-1, namespace: app2-ns, labels: {kubernetes.io/service-name: orders}}
addressType: IPv4
ports: [{name: http, port: 8000, protocol: TCP}]
endpoints:
- {addresses: [10.244.2.2], conditions: {ready: true}, targetRef: {kind: Pod, name: app2-0, namespace: app2-ns}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: app2-ns}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: app2-ns}
spec:
  host: orders.app2-ns.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
";

/// Where pods are told that Service is.
const ORDERS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 60), 8000);

fn a_call_under_strict_mtls_works_with_the_scope_and_without() -> Result<()> {
    let install = install()?;
    let policies = [reference::policy()?];
    let scoped = reference::of(&install, &policies)?;
    let mut apart = install.clone();
    apart.spec.workloads.mesh_hosts = Some(Vec::new());
    let apart = reference::of(&apart, &policies)?;
    let mut plan = Plan::changed(seeing(&scoped, EVERYTHING)?);
    SERVER.clone_into(&mut plan.others);
    let mut bench = Bench::start(&plan)?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    bench.inside("app2", || {
        inbound()?;
        serve()
    })?;
    answered(&bench, true).context("before")?;
    // Without its sidecar nobody gets through: the server's own insists on mTLS.
    let unguarded = bench.inside("app1", || {
        let address = SocketAddrV4::new(Ipv4Addr::new(10, 244, 2, 2), 8000);
        Ok(client::connect(address).and_then(|mut stream| {
            client::request(&mut stream, "GET", "/", &[("Host", b"orders.app2-ns")])
        }))
    })?;
    ensure!(
        !matches!(&unguarded, Ok(Some(answer)) if answer.status == 200),
        "{unguarded:?}"
    );
    plan.manifests = scoped.yaml();
    bench.update(&plan)?;
    eventually("the scope", || {
        let clusters = bench
            .served("app1-0.app1-ns")
            .unwrap_or_default()
            .to_string();
        clusters.contains("outbound|8000||orders.app2-ns")
    })?;
    answered(&bench, true).context("with the scope")?;
    // What is left out is lost, which `warden doctor --namespaces` says.
    plan.manifests = apart.yaml();
    bench.update(&plan)?;
    eventually("the narrower scope", || {
        let served = bench.served("app1-0.app1-ns").unwrap_or_default();
        !listeners(&served).is_empty() && !served.to_string().contains("orders.app2-ns")
    })?;
    answered(&bench, false).context("left out")
}

/// Waits until app1's call is answered by app2, or by somebody else.
fn answered(bench: &Bench, by_app2: bool) -> Result<()> {
    let mut last = String::new();
    let call = || {
        bench.inside("app1", || {
            let mut stream = client::connect(ORDERS)?;
            client::request(&mut stream, "GET", "/", &[("Host", b"orders.app2-ns:8000")])
        })
    };
    eventually("the call", || {
        let answer = call();
        last = format!("{answer:?}");
        let came = matches!(&answer, Ok(Some(answer)) if answer.body == "from app2");
        came == by_app2
    })
    .with_context(|| last.clone())
}

/// What comes in goes to the sidecar, as `istio-init` has it.
fn inbound() -> Result<()> {
    sandbox::nft(
        "table ip inbound { chain prerouting { type nat hook prerouting priority -100; \
         tcp dport 8000 redirect to :15006 ; } ; }",
    )
}

/// An application that answers every request with its name.
fn serve() -> Result<()> {
    let listener = TcpListener::bind("10.244.2.2:8000")?;
    std::thread::spawn(move || -> Result<()> {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut text = Vec::new();
            let mut byte = [0];
            while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
                text.extend(byte);
            }
            // Whoever has gone does not mind.
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nfrom app2",
            );
        }
        bail!("no more connections")
    });
    Ok(())
}
