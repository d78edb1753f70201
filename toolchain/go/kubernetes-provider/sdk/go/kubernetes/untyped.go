// Package kubernetes stands for the provider's Go SDK, of which the provider itself uses four names.
//
// The whole SDK has a type for each kind of object: nine minutes of a processor to compile.
package kubernetes

import "reflect"

// UntypedArgs is an object of any kind, as an input.
type UntypedArgs map[string]any

// ElementType says what it is an input of.
func (UntypedArgs) ElementType() reflect.Type { return reflect.TypeFor[map[string]any]() }
