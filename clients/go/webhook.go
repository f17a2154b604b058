package switchyard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const fewestSecretBytes = 24

// ErrVerification is what errors.Is finds in every refusal of Verify; answer 401.
var ErrVerification = errors.New("not a webhook of Switchyard's")

// Webhook checks that a request is one of Switchyard's webhooks: Standard Webhooks, https://www.standardwebhooks.com.
type Webhook struct {
	keys [][]byte
	// Tolerance is how far the sender's clock may be off, either way. Default 5 minutes.
	Tolerance time.Duration
	// Now is the time; by default the machine's.
	Now func() time.Time
}

// NewWebhook takes the signing secrets: "whsec_" and base64, several (or with blanks between them) while one takes the place of another.
func NewWebhook(secrets ...string) (*Webhook, error) {
	w := &Webhook{Tolerance: 5 * time.Minute, Now: time.Now}
	for _, secret := range strings.Fields(strings.Join(secrets, " ")) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) < fewestSecretBytes {
			// What was given is in no message.
			return nil, fmt.Errorf("switchyard: the webhook's signing secret must be \"whsec_\" and at least %d bytes in base64; give the one that Switchyard signs with", fewestSecretBytes)
		}
		w.keys = append(w.keys, key)
	}
	if len(w.keys) == 0 {
		return nil, errors.New("switchyard: the webhook's signing secret is empty; set the variable that holds it")
	}
	return w, nil
}

// Verify gives the event in a request's body, which must be exactly what came.
func (w *Webhook) Verify(body []byte, header http.Header) (*Event, error) {
	id, stamp, signatures := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), header.Get("Webhook-Signature")
	for _, each := range [][2]string{{"webhook-id", id}, {"webhook-timestamp", stamp}, {"webhook-signature", signatures}} {
		if each[1] == "" {
			return nil, unverified(each[0] + ": is missing; the request is no webhook")
		}
	}
	seconds, err := strconv.ParseUint(stamp, 10, 53)
	if err != nil {
		return nil, unverified("webhook-timestamp: is no time in seconds")
	}
	if w.Now().Sub(time.Unix(int64(seconds), 0)).Abs() > w.Tolerance {
		return nil, unverified("webhook-timestamp: is too far from this machine's time; the request was held back or sent again, or a clock is wrong")
	}
	valid := false
	for _, key := range w.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + stamp + "."))
		mac.Write(body)
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		// Every pair is compared, in constant time.
		for _, signature := range strings.Fields(signatures) {
			valid = hmac.Equal(expected, []byte(signature)) || valid
		}
	}
	if !valid {
		return nil, unverified("webhook-signature: is by none of the secrets here; the request is somebody else's, or its body was changed")
	}
	var event Event
	if err := json.Unmarshal(body, &event); err != nil || event.ID == "" || event.Type == "" {
		return nil, unverified("the body is signed, but is no event that this release knows; update the module")
	}
	return &event, nil
}

type verificationError string

func unverified(problem string) error            { return verificationError(problem) }
func (e verificationError) Error() string        { return "switchyard: " + string(e) }
func (e verificationError) Is(target error) bool { return target == ErrVerification }
