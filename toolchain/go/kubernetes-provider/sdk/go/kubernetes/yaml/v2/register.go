// Package v2 registers objects that came from YAML.
package v2

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// RegisterResource registers an object of any kind. The SDK has a type of its own for each, and one
// of which nothing is known for all others; what came from YAML is read by nobody, so all are that.
func RegisterResource(
	ctx *pulumi.Context, apiVersion, kind, name string, props pulumi.Input, opts ...pulumi.ResourceOption,
) (pulumi.CustomResource, error) {
	var object pulumi.CustomResourceState
	// The core API has no group, and is called core.
	if apiVersion == "v1" {
		apiVersion = "core/v1"
	}
	err := ctx.RegisterResource("kubernetes:"+apiVersion+":"+kind, name, props, &object, opts...)
	if err != nil {
		return nil, err
	}
	return &object, nil
}
