// Package bus lets the modules of a program talk through typed events.
package bus
