// Command istiod-xds is a real Istio control plane's configuration generator without a cluster: it
// reads Istio and Kubernetes objects from YAML files and serves what istiod would send for them,
// over plain-text xDS. Tests feed it with rendered manifests and let stock Envoys run the answer.
//
// It is built on the test library of Istio itself, so that what is generated is Istio's own work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
)

type settings struct {
	listen, debug, mesh, kube, sds string
	identity                       identity
	objects                        []string
}

func main() {
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, "istiod-xds:", err)
		os.Exit(1)
	}
}

func parse() settings {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:15010", "address of the xDS service")
	flag.StringVar(&s.debug, "debug", "", "address of Istio's debug endpoints; none if empty")
	flag.StringVar(&s.mesh, "mesh", "", "file with the mesh configuration; Istio's defaults if empty")
	flag.StringVar(&s.kube, "kube", "", "comma-separated files of Kubernetes objects")
	flag.StringVar(&s.sds, "sds", "", "Unix socket on which to serve a workload's certificate; none if empty")
	flag.StringVar(&s.identity.certificate, "cert", "", "the workload's certificate chain, PEM")
	flag.StringVar(&s.identity.key, "key", "", "its private key, PEM")
	flag.StringVar(&s.identity.roots, "root", "", "the mesh's roots, PEM")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: istiod-xds [flags] [istio-objects.yaml ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	s.objects = flag.Args()
	return s
}

func run(s settings) error {
	options, err := options(s)
	if err != nil {
		return err
	}
	if s.sds != "" {
		server, err := serveIdentity(s.sds, s.identity)
		if err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
		defer server.Stop()
	}
	reporter := &reporter{}
	defer reporter.cleanUp()
	server := xds.NewFakeDiscoveryServer(reporter, options)
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	fmt.Fprintln(os.Stderr, "serving xDS on", s.listen)
	if s.debug == "" {
		<-stop.Done()
		return nil
	}
	return serveDebug(stop, s.debug, server.DiscoveryDebug)
}

func options(s settings) (xds.FakeOptions, error) {
	istio, err := join(s.objects)
	if err != nil {
		return xds.FakeOptions{}, err
	}
	kubernetes, err := join(strings.FieldsFunc(s.kube, func(r rune) bool { return r == ',' }))
	if err != nil {
		return xds.FakeOptions{}, err
	}
	options := xds.FakeOptions{
		ConfigString:           istio,
		KubernetesObjectString: kubernetes,
		ListenerBuilder:        func() (net.Listener, error) { return net.Listen("tcp", s.listen) },
	}
	if s.mesh == "" {
		return options, nil
	}
	text, err := os.ReadFile(s.mesh)
	if err != nil {
		return xds.FakeOptions{}, err
	}
	options.MeshConfig, err = mesh.ApplyMeshConfigDefaults(string(text))
	return options, err
}

// join returns the documents of all files as one YAML stream.
func join(files []string) (string, error) {
	documents := make([]string, 0, len(files))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		documents = append(documents, string(text))
	}
	return strings.Join(documents, "\n---\n"), nil
}

func serveDebug(stop context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-stop.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
