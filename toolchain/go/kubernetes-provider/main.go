// The official Kubernetes provider of Pulumi, from its Go module.
package main

import (
	_ "embed"
	"os"
	"strings"
	"time"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

// The build copies both from the module's own program, which no other package can embed from.

//go:embed schema.json
var schema string

//go:embed terraform-mapping.json
var mapping []byte

func main() {
	go endWith(os.Getppid())
	// As in a release, whose schema says which one it is.
	schema = `{"version": "` + strings.TrimPrefix(version.Version, "v") + `",` + strings.TrimPrefix(schema, "{")
	provider.Serve("kubernetes", version.Version, []byte(schema), mapping)
}

// endWith ends this process with its engine, so that one that was killed leaves nothing that still
// works on the cluster. The provider itself looks for its engine every five minutes.
func endWith(engine int) {
	for os.Getppid() == engine {
		time.Sleep(500 * time.Millisecond)
	}
	os.Exit(1)
}
