package outbox

// Unwrap is unwrap.
var Unwrap = unwrap
