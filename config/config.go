// Package config is the configuration of a program on Postbus, from outside of its code: a YAML file, and environment
// variables over it.
//
//	cfg, err := config.Load("shop.yaml", os.Environ())
//	// err names every mistake by its key
//	t, err := cfg.OpenTransport(ctx)
//	b, err := bus.New(cfg.Bus(t, middleware.StandardConfig{Quarantine: q}))
//
// Package config/configfx does that in an fx application. [Schema] is the JSON schema of the file.
//
// # Environment
//
// A variable is the key in capitals after POSTBUS_, with "__" between levels and "_" for what is neither a letter nor a
// digit: POSTBUS_TRANSPORT, POSTBUS_GROUPS__BILLING__WORKERS=32, POSTBUS_POLICY__DELAYS=1s,1m,1h. A group in a variable
// is the one of the file whose name looks like that, or else its name in small letters. An empty variable counts as not
// set. POSTBUS_TEST_…, POSTBUS_SERVICES_… and what Kubernetes sets for a service named postbus (POSTBUS_PORT…,
// POSTBUS_SERVICE_…) are left alone; any other is a mistake.
//
// # Secrets
//
// Within a text, "${file:/run/secrets/password}" stands for the content of that file without white space at its end,
// percent-encoded if it is a part of the text and as it is if it is the whole. No error and nothing printed holds the
// password of a URL.
package config

import "time"

// Config is the whole configuration. Zero fields have the defaults of their keys.
type Config struct {
	Name        string           `key:"name" default:"postbus" doc:"The name of the program in logs."`
	Transport   URL              `key:"transport" default:"memory:" doc:"The URL of what carries the messages, such as amqp://user:password@host/."`
	Store       URL              `key:"store" doc:"The URL of the database of outbox, sagas and quarantine, such as postgres://user:password@host/database."`
	StopTimeout time.Duration    `key:"stop_timeout" default:"30s" doc:"How long a stop lets handlers finish, outside of fx."`
	Policy      Policy           `key:"policy" doc:"What becomes of failures, in all groups that do not say otherwise."`
	Retention   Retention        `key:"retention" doc:"How long what is through is kept in the store."`
	Quarantine  Quarantine       `key:"quarantine" doc:"What becomes of messages in quarantine, in the store."`
	Telemetry   Telemetry        `key:"telemetry" doc:"What is reported by OpenTelemetry, where the program has it."`
	KillSwitch  *KillSwitch      `key:"kill_switch" doc:"Pauses a group that fails too often. None if it is missing."`
	Groups      map[string]Group `key:"groups" doc:"Groups by name. The code of the program must have them."`
}

// Policy says what becomes of messages that cannot be handled.
type Policy struct {
	Attempts int             `key:"attempts" min:"1" doc:"How many deliveries of a message may fail before it goes into quarantine. Default: one more than there are delays, or 10."`
	Delays   []time.Duration `key:"delays" min:"1ns" doc:"The pauses between the deliveries of a message that fails; the last holds for all further ones. Default: a pause that grows, and holds up the key."`
	Timeout  time.Duration   `key:"timeout" doc:"How long a single try may take. 0s is no limit, and in a group that of the policy."`
	Retry    Retry           `key:"retry" doc:"The tries within one delivery."`
}

// Retry configures the tries within one delivery.
type Retry struct {
	Attempts int           `key:"attempts" default:"3" min:"1" doc:"How often a message is tried during one delivery; 1 is no retry."`
	Delay    time.Duration `key:"delay" default:"50ms" min:"1ns" doc:"Bounds the pause after the first try, and doubles with each further one."`
	MaxDelay time.Duration `key:"max_delay" default:"1s" min:"1ns" doc:"The longest pause between tries."`
}

// Retention is how long what is through is kept in the store.
type Retention struct {
	Inbox time.Duration `key:"inbox" default:"7d" min:"1ns" doc:"For how long it is known which messages were handled: one that comes again later is handled again."`
	Sagas time.Duration `key:"sagas" default:"7d" min:"1ns" doc:"Sagas that have ended, with their journals."`
}

// Quarantine says what becomes of messages in quarantine.
type Quarantine struct {
	Retention time.Duration `key:"retention" min:"1ns" doc:"How long a message waits after its last failure, before it is discarded. Default: for ever."`
	Replayed  time.Duration `key:"replayed" default:"7d" min:"1ns" doc:"How long messages are kept that were replayed."`
}

// Telemetry says what is reported by OpenTelemetry.
type Telemetry struct {
	Signals Signals `key:"signals" default:"all" enum:"all,traces,metrics,none" doc:"Which signals there are."`
	System  string  `key:"system" default:"postbus" doc:"The attribute messaging.system, such as rabbitmq."`
}

// Signals are "all", "traces", "metrics" or "none".
type Signals string

// Traces reports whether there are traces.
func (s Signals) Traces() bool { return s == "" || s == "all" || s == "traces" }

// Metrics reports whether there are metrics.
func (s Signals) Metrics() bool { return s == "" || s == "all" || s == "metrics" }

// Group configures one group, over what the code declares and over Config.Policy.
type Group struct {
	Workers   int      `key:"workers" default:"8" min:"1" doc:"How many handlers of the group run at once."`
	Delivery  Delivery `key:"delivery" default:"at least once" enum:"at least once,at most once" doc:"Whether a message is acknowledged after it was handled, or before."`
	Prefetch  int      `key:"prefetch" min:"1" doc:"How many deliveries the group holds at most, per topic."`
	KeepOrder bool     `key:"keep_order" default:"false" doc:"A delayed message waits in its place, and later ones of its key behind it."`
	ParkKeys  bool     `key:"park_keys" default:"false" doc:"Later messages of a key wait behind one that is in quarantine, until that is replayed or discarded."`
	Backoff   Backoff  `key:"backoff" doc:"The pause before a failed delivery comes again, where there are no delays."`
	Policy
}

// Backoff bounds the pauses between deliveries.
type Backoff struct {
	Min time.Duration `key:"min" default:"100ms" min:"1ns" doc:"The first pause."`
	Max time.Duration `key:"max" default:"1m" min:"1ns" doc:"The longest pause."`
}

// KillSwitch configures middleware.KillSwitch.
type KillSwitch struct {
	Rate          float64       `key:"rate" default:"0.5" min:"0.01" max:"1" doc:"The share of deliveries within the window whose failure pauses a group."`
	MinDeliveries int           `key:"min_deliveries" default:"20" min:"1" doc:"How many deliveries within the window the rate needs to speak."`
	Window        time.Duration `key:"window" default:"1m" min:"1ns" doc:"The time that is looked back on."`
	Pause         time.Duration `key:"pause" default:"30s" min:"1ns" doc:"How long a group waits before one delivery probes."`
}

// Delivery is a guarantee: "at least once" or "at most once".
type Delivery string
