package saga

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postbus/postbus/codec"
)

// Kind is what an entry of a journal is about.
type Kind string

// The kinds of entries.
const (
	Started      Kind = "started"     // by Event, or by the parent
	Done         Kind = "done"        // Do has succeeded
	Failed       Kind = "failed"      // an attempt of Do
	Replied      Kind = "replied"     // Event was taken by the step
	Kept         Kind = "kept"        // Event came before its step, and waits for it
	Ignored      Kind = "ignored"     // Event came twice or too late
	Skipped      Kind = "skipped"     // When was false, or a person said so
	TimedOut     Kind = "timed-out"   // the step, or the saga if Step is empty
	ChildEnded   Kind = "child-ended" // well, or as Error says
	Aborted      Kind = "aborted"
	Undone       Kind = "undone" // Undo has succeeded
	UndoFailed   Kind = "undo-failed"
	BecameStuck  Kind = "stuck"
	Retried      Kind = "retried"  // by a person
	Reopened     Kind = "reopened" // to be undone, for the parent
	Migrated     Kind = "migrated"
	ChildAborted Kind = "child-aborted" // the child is being undone, for the compensation
	Told         Kind = "told"          // the parent knows of the end
	Ended        Kind = "ended"
)

// Entry is one line in the journal of an instance.
type Entry struct {
	// Rev is the number of the transition, from 1; what has one number was committed together.
	Rev int64 `json:"rev,omitempty"`
	// At is when, by the clock of the database.
	At   time.Time `json:"at,omitzero"`
	Kind Kind      `json:"kind"`
	// Step is its name; empty where the entry is about the instance.
	Step string `json:"step,omitempty"`
	// Attempt is its number, from 1.
	Attempt int `json:"attempt,omitempty"`
	// Error is what went wrong.
	Error string `json:"error,omitempty"`
	// Event, EventVersion and Message are the name, the version and the message id of the event that was the cause, and
	// Data is the event as JSON.
	Event        string          `json:"event,omitempty"`
	EventVersion int             `json:"event_version,omitempty"`
	Message      string          `json:"message,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
	// Took is how long the attempt ran.
	Took time.Duration `json:"took,omitempty"`
	// Finished reports whether this has ended the step well, or its undoing, and Lasted how long that took, from when the
	// step was reached, or its undoing begun.
	Finished bool          `json:"finished,omitempty"`
	Lasted   time.Duration `json:"lasted,omitempty"`
	// State is the state, as JSON, after what can change it has succeeded; empty elsewhere.
	State string `json:"state,omitempty"`
}

// eventCodec keeps events in journals and rows.
var eventCodec = codec.JSON

// longestError bounds the text of an error in the journal.
const longestError = 2000

// errorText is err as the database can keep it.
func errorText(err error) string {
	text := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "�"), "\x00", "�")
	if len(text) <= longestError {
		return text
	}
	text = text[:longestError]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + "…"
}
