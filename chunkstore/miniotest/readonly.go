package miniotest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// ReadOnly returns credentials of the server at endpoint that may get objects of
// buckets and nothing else, as environment variables "NAME=VALUE".
func ReadOnly(tb testing.TB, endpoint string, buckets ...string) []string {
	tb.Helper()
	var resources []string
	for _, b := range buckets {
		resources = append(resources, fmt.Sprintf(`"arn:aws:s3:::%s/*"`, b))
	}
	return Under(tb, endpoint, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[`+
		`{"Effect":"Allow","Action":["s3:GetObject"],"Resource":[%s]}]}`,
		strings.Join(resources, ",")))
}

// Under returns credentials of the server at endpoint that may do what policy says, as environment
// variables "NAME=VALUE".
func Under(tb testing.TB, endpoint, policy string) []string {
	tb.Helper()
	form := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"},
		"DurationSeconds": {"3600"}, "Policy": {policy}}.Encode()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var answer assumedRole
	var err error
	// the part that knows credentials starts after the rest
	for try := 0; answer.Token == ""; try++ {
		if answer, err = assumeRole(endpoint, form); try == readyTries {
			tb.Fatalf("AssumeRole: %v", err)
		}
		<-tick.C
	}
	return []string{"AWS_ACCESS_KEY_ID=" + answer.Key, "AWS_SECRET_ACCESS_KEY=" + answer.Secret,
		"AWS_SESSION_TOKEN=" + answer.Token}
}

type assumedRole struct {
	Key    string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
	Secret string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
	Token  string `xml:"AssumeRoleResult>Credentials>SessionToken"`
}

func assumeRole(endpoint, form string) (answer assumedRole, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, endpoint+"/",
		strings.NewReader(form))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(form))
	credentials := aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, request,
		hex.EncodeToString(sum[:]), "sts", "us-east-1", time.Now()); err != nil {
		return answer, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s: %s", response.Status, body)
	}
	if err == nil {
		err = xml.Unmarshal(body, &answer)
	}
	return answer, err
}
