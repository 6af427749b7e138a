package main

import (
	"net"
	"os"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// identity names the files of a workload's certificate.
type identity struct {
	certificate, key, roots string
}

// The two secrets that Istio's listeners and clusters ask their agent for.
const (
	workloadSecret = "default"
	rootsSecret    = "ROOTCA"
)

// identityServer does what Istio's agent does beside every proxy: it hands out the workload's
// certificate and the mesh's roots over SDS.
type identityServer struct {
	secret.UnimplementedSecretDiscoveryServiceServer
	secrets map[string]*anypb.Any
}

func serveIdentity(socket string, files identity) (*grpc.Server, error) {
	secrets, err := files.secrets()
	if err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	secret.RegisterSecretDiscoveryServiceServer(server, &identityServer{secrets: secrets})
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

func (i identity) secrets() (map[string]*anypb.Any, error) {
	read := func(name string) (*core.DataSource, error) {
		bytes, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: bytes}}, nil
	}
	chain, err := read(i.certificate)
	if err != nil {
		return nil, err
	}
	key, err := read(i.key)
	if err != nil {
		return nil, err
	}
	roots, err := read(i.roots)
	if err != nil {
		return nil, err
	}
	secrets := map[string]*anypb.Any{}
	for _, s := range []*tls.Secret{
		{Name: workloadSecret, Type: &tls.Secret_TlsCertificate{
			TlsCertificate: &tls.TlsCertificate{CertificateChain: chain, PrivateKey: key},
		}},
		{Name: rootsSecret, Type: &tls.Secret_ValidationContext{
			ValidationContext: &tls.CertificateValidationContext{TrustedCa: roots},
		}},
	} {
		packed, err := anypb.New(s)
		if err != nil {
			return nil, err
		}
		secrets[s.Name] = packed
	}
	return secrets, nil
}

// StreamSecrets answers every new name once; certificates of tests do not rotate. Envoy repeats
// its names when it acknowledges, which must not be answered again.
func (s *identityServer) StreamSecrets(stream secret.SecretDiscoveryService_StreamSecretsServer) error {
	sent := map[string]bool{}
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		response := &discovery.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: request.TypeUrl}
		for _, name := range request.ResourceNames {
			if packed, known := s.secrets[name]; known && !sent[name] {
				sent[name] = true
				response.Resources = append(response.Resources, packed)
			}
		}
		if len(response.Resources) == 0 {
			continue
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}
