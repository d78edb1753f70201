// The official Kubernetes provider of Pulumi, from its Go module.
package main

import (
	_ "embed"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

// The build copies both from the module's own program, which no other package can embed from.

//go:embed schema.json
var schema string

//go:embed terraform-mapping.json
var mapping []byte

func main() {
	// As in a release, whose schema says which one it is.
	schema = `{"version": "` + strings.TrimPrefix(version.Version, "v") + `",` + strings.TrimPrefix(schema, "{")
	provider.Serve("kubernetes", version.Version, []byte(schema), mapping)
}
